// Pictures: bars as inline SVG. The same numbers stand beside each as a table.
const SVG = 'http://www.w3.org/2000/svg';

const shape = (name, attributes, ...children) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

/** Round up to 1, 2 or 5 times a power of ten. */
const ceiling = value => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 2, 5, 10].map(factor => factor * power).find(most => most >= value);
};

/**
 * Bars over time, oldest on the left. Bars: {label, title, back, front, mark, faint}: `back` is drawn behind `front`,
 * `mark` (0 to 1) is a dot on a scale of its own.
 */
export const bars = (description, data) => {
  const isNarrow = matchMedia('(max-width: 46rem)').matches;
  const width = isNarrow ? 340 : 1120, height = 180, left = 40, bottom = 24, top = 10;
  const most = ceiling(Math.max(1, ...data.map(each => Math.max(each.back ?? 0, each.front ?? 0))));
  const step = (width - left) / Math.max(data.length, 1);
  const y = value => top + (height - top - bottom) * (1 - value / most);
  const size = Math.min(48, step * 0.7);
  const picture = shape('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', class: 'picture', 'aria-label': description });
  for (const value of [0, most / 2, most]) {
    picture.append(shape('line', { class: 'grid', x1: left, x2: width, y1: y(value), y2: y(value) }),
      shape('text', { class: 'scale', x: left - 8, y: y(value) + 4, 'text-anchor': 'end' },
        value >= 1000 ? `${value / 1000}k` : String(value)));
  }
  const every = Math.ceil(data.length / (isNarrow ? 5 : 10));
  data.forEach((each, place) => {
    const middle = left + step * (place + 0.5);
    const group = shape('g', { class: each.faint ? 'faint' : '' }, shape('title', {}, each.title));
    for (const part of ['back', 'front']) {
      const value = each[part];
      if (value > 0) {
        const at = Math.min(y(value), y(0) - 2);
        group.append(shape('rect', { class: part, x: middle - size / 2, y: at, width: size, height: y(0) - at, rx: 2 }));
      }
    }
    if (each.mark !== undefined && each.mark !== null) {
      group.append(shape('circle', { class: 'mark', cx: middle, cy: y(most * each.mark), r: 4 }));
    }
    picture.append(group);
    if (place % every === 0) {
      picture.append(shape('text', { class: 'scale', x: middle, y: height - 6, 'text-anchor': 'middle' }, each.label));
    }
  });
  return picture;
};

/**
 * A curve of shares over hours with the band of its interval. Points: {hours, regret, low, high, sentence}. `chosen` is
 * a line across, `present` one upright.
 */
export const curve = (description, points, { chosen, present }) => {
  const isNarrow = matchMedia('(max-width: 46rem)').matches;
  const width = isNarrow ? 340 : 1120, height = 220, left = 48, bottom = 26, top = 10;
  const drawn = points.filter(point => point.regret !== null);
  const most = Math.min(1, Math.max(0.01, chosen * 1.5, ...drawn.map(point => Math.min(point.high, point.regret * 3))) * 1.1);
  const last = Math.log(points.at(-1).hours);
  const x = hours => left + (width - left - 24) * Math.log(hours) / last;
  const y = share => top + (height - top - bottom) * (1 - Math.min(share, most) / most);
  const path = shares => shares.map(([hours, share], place) => `${place ? 'L' : 'M'}${x(hours)} ${y(share)}`).join(' ');
  const picture = shape('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', class: 'picture', 'aria-label': description });
  for (const share of [0, most / 2, most]) {
    picture.append(shape('line', { class: 'grid', x1: left, x2: width, y1: y(share), y2: y(share) }),
      shape('text', { class: 'scale', x: left - 8, y: y(share) + 4, 'text-anchor': 'end' }, share ? `${(100 * share).toPrecision(2)} %` : '0'));
  }
  for (const hours of isNarrow ? [1, 4, 24, 72] : [1, 2, 4, 9, 16, 24, 48, 72, 120]) {
    picture.append(shape('text', { class: 'scale', x: x(hours), y: height - 6, 'text-anchor': 'middle' }, `${hours} h`));
  }
  picture.append(
    shape('path', { class: 'band', d: `${path(drawn.map(point => [point.hours, point.high]))} ${
      path(drawn.map(point => [point.hours, point.low]).reverse()).replace('M', 'L')} Z` }),
    shape('path', { class: 'line', d: path(drawn.map(point => [point.hours, point.regret])) }),
    shape('line', { class: 'chosen', x1: left, x2: width, y1: y(chosen), y2: y(chosen) }));
  if (present) picture.append(shape('line', { class: 'present', x1: x(present), x2: x(present), y1: top, y2: height - bottom }));
  for (const point of drawn) {
    picture.append(shape('circle', { class: 'front', cx: x(point.hours), cy: y(point.regret), r: 4 }, shape('title', {}, point.sentence)));
  }
  return picture;
};
