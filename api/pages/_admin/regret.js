// What an age would cost: the regret curve.
import { ask } from './door.js';
import { byId, fill, forget, make, number, show, table } from './elements.js';
import { curve } from './pictures.js';

const share = value => (value === null ? '–' : `${(100 * value).toFixed(value < 0.1 ? 2 : 1)} %`);

/** Read and draw the curve of the chosen sessions. */
export const drawRegret = async ({ signal } = {}) => {
  const [kind, status] = byId('regret-kind').value.split(' ');
  const regret = Number(byId('regret-share').value) / 100;
  if (!(regret > 0 && regret < 1)) return;
  const { body } = await ask(`/api/admin/regret?${new URLSearchParams({ kind, status, regret })}`, { signal });
  show('regret', body, () => drawing(body));
};

const drawing = body => {
  const hasPoints = body.curve.some(point => point.regret !== null);
  return [
    body.reason ? make('p', { class: 'notice' }, body.reason) : null,
    body.warning ? make('p', { class: 'notice warn' }, body.warning) : null,
    body.enough ? make('p', {}, body.recommendedHours ? make('strong', {}, `${body.recommendedHours} h or more`) : 'No age up to 120 h',
      ` would take at most ${share(body.regret)} that would have come back, with 97.5 % certainty.`) : null,
    hasPoints ? curve(`Share of the deleted sessions that would have come back, by age. ${body.reason ?? ''}`, body.curve,
      { chosen: body.regret, present: body.presentHours }) : null,
    hasPoints ? make('p', { class: 'legend soft' }, 'Of the sessions that a run at this age takes, the share that comes back within 168 hours, with its 95 % interval. ',
      'Dashed: the regret you accept. Upright: the age of today’s policy.') : null,
    hasPoints ? make('details', {}, make('summary', {}, 'As a table'), table('Regret by age',
      [['Age'], ['Idle for so long', true], ['Came back', true], ['Regret', true], ['At least', true], ['At most', true]],
      body.curve.map(point => [`${point.hours} h`, number(point.crossings), number(point.returned), share(point.regret), share(point.low), share(point.high)]))) : null,
  ];
};

/** Draw anew when another choice is made; `failed` says what went wrong. */
export const startRegret = failed => {
  for (const id of ['regret-kind', 'regret-share']) {
    byId(id).addEventListener('change', () => {
      forget('regret');
      fill('regret', make('p', { class: 'soft' }, 'Counting …'));
      drawRegret().catch(failed);
    });
  }
};
