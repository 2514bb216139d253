// Small things to build a page of: elements, tables, and how numbers and times are written.

export const byId = id => document.getElementById(id);

/** An element. Properties are attributes, but for `on…` handlers; a child may be a text. */
export const make = (name, properties = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined).map(child => (
    child instanceof Node ? child : String(child))));
  return element;
};

export const button = (text, act, classes = 'button quiet small') =>
  make('button', { type: 'button', class: classes, onclick: act }, text);

/** A table that scrolls by itself on a narrow screen. Columns: [heading, isNumber]. */
export const table = (caption, columns, rows) => make('div', { class: 'scrolls', tabindex: '0', role: 'region', 'aria-label': caption },
  make('table', {},
    make('thead', {}, make('tr', {}, columns.map(([heading, isNumber]) =>
      make('th', { scope: 'col', class: isNumber ? 'number' : null }, heading)))),
    make('tbody', {}, rows.map(cells => make('tr', {}, cells.map((cell, place) =>
      make(place ? 'td' : 'th', { scope: place ? null : 'row', class: columns[place][1] ? 'number' : null }, cell)))))));

export const fill = (id, ...children) => byId(id).replaceChildren(...children.flat().filter(Boolean));

/** Replace the content of a part only when what it shows has changed: focus and a selection stay. */
const shown = new Map();
export const show = (id, facts, draw) => {
  const key = JSON.stringify(facts);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  fill(id, draw());
};
export const forget = id => (id ? shown.delete(id) : shown.clear());

export const number = value => (value === null || value === undefined ? '–' : new Intl.NumberFormat('en').format(value));
export const percent = value => (value === null || value === undefined ? '–' : `${number(Math.round(value * 10) / 10)} %`);
export const plural = (count, unit) => `${number(count)} ${unit}${count === 1 ? '' : 's'}`;
export const moment = text => (text ? make('time', { datetime: text, title: text }, new Intl.DateTimeFormat('en-GB', {
  dateStyle: 'medium', timeStyle: 'short' }).format(new Date(text))) : '–');

export const duration = seconds => {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) {
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
};

const TONES = { completed: 'good', ok: 'good', partial: 'good', running: 'plain', stopped: 'warn', warn: 'warn',
  shadow: 'plain', paused: 'warn', failed: 'bad', fail: 'bad', abandoned: 'bad' };
export const badge = text => make('span', { class: `badge ${TONES[text] ?? 'plain'}` }, text);
