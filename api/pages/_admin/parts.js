// What the dashboard shows: each part is drawn from the API's answers, and only when it has changed.
import { bars } from './pictures.js';
import { badge, byId, duration, make, moment, number, percent, plural, show, table } from './elements.js';
import { openRun, unhold } from './actions.js';

const SHOWN = 8; // runs that are shown without a click
const STATUSES = ['draft', 'active', 'paused', 'ended'];
const WHY = { STATIC: 'set for all', SPLIT: 'a share of all', TARGETING_MATCH: 'by user', DEFAULT: 'not set',
  DISABLED: 'the kill switch is on' };
const none = text => make('p', { class: 'soft' }, text);

/** How old what is shown is. */
export const drawAge = state => {
  const seconds = Math.round((Date.now() - state.read) / 1000);
  byId('age').textContent = `As of ${seconds < 2 ? 'now' : `${duration(seconds)} ago`}`;
  byId('age').classList.toggle('stale', Boolean(state.error));
};

/** Draw the overview. */
export const draw = view => {
  show('alerts', view.alerts, () => drawAlerts(view.alerts));
  show('now', [view.sessions, view.roomsOnline, view.holds, view.flag], () => drawNow(view));
  show('cleanup', [view.runs[0], view.running, view.nextRunAt, view.pauses], () => drawCleanup(view));
  show('runs', view.runs, () => drawRuns(view.runs));
  show('backlog', view.backlog, () => drawBacklog(view.backlog));
  const paused = view.pauses.some(each => each.policy === null);
  byId('pause').textContent = paused ? 'Unpause' : 'Pause';
  byId('pause').dataset.paused = paused;
  byId('pause').disabled = false;
};

/** Draw what is read less often. */
export const drawSlowly = (funnel, stats, holds) => {
  show('funnel', funnel, () => drawFunnel(funnel));
  show('kinds', [stats.kinds, stats.uploads, stats.feedback, stats.items], () => drawKinds(stats));
  show('holds', holds.holds, () => drawHolds(holds.holds));
};

const drawAlerts = alerts => (alerts.length
  ? make('ul', { class: 'items' }, alerts.map(each => make('li', { class: 'notice bad' },
    make('strong', {}, each.condition, each.policy ? ` (${each.policy})` : ''), ' ', each.sentence, ' Since ',
    moment(each.since), '.')))
  : make('p', { class: 'notice good' }, 'No alert holds.'));

const drawNow = view => {
  const count = (kind, status) => view.sessions.find(each => each.kind === kind && each.status === status)?.n ?? 0;
  const counted = view.sessions.find(each => each.countedAt)?.countedAt;
  return [
    table('Sessions by kind and status', [['Kind'], ...STATUSES.map(status => [status, true])],
      ['chat', 'room', 'game'].map(kind => [kind, ...STATUSES.map(status => number(count(kind, status)))])),
    counted ? make('p', { class: 'soft' }, 'Counted at ', moment(counted), '.') : null,
    make('dl', { class: 'facts' },
      make('dt', {}, 'Rooms online'), make('dd', {}, number(view.roomsOnline)),
      make('dt', {}, 'Rows on hold'), make('dd', {}, view.holds > 10_000 ? 'over 10,000' : number(view.holds)),
      make('dt', {}, 'Early sessions'), make('dd', {}, badge(view.flag.value ? 'on' : 'off'), ` ${
        WHY[view.flag.reason] ?? view.flag.reason} (${view.flag.reason})`)),
  ];
};

const drawCleanup = view => {
  const last = view.runs.find(run => run.status !== 'running');
  return [
    ...view.pauses.map(each => make('p', { class: 'notice warn' }, each.policy ? `${each.policy} is paused` : 'The cleanup is paused',
      ' since ', moment(each.since), each.until ? [' until ', moment(each.until)] : '', each.reason ? `: ${each.reason}` : '.')),
    view.running ? drawProgress(view.running) : null,
    last ? make('dl', { class: 'facts' },
      make('dt', {}, 'Last run'), make('dd', {}, badge(last.status), ' ', moment(last.startedAt)),
      make('dt', {}, 'It deleted'), make('dd', {}, `${number(last.deleted)} and ${number(last.cascaded)} below`),
      make('dt', {}, 'It took'), make('dd', {}, duration(took(last))),
      make('dt', {}, 'Next run'), make('dd', {}, view.nextRunAt ? moment(view.nextRunAt) : 'not known'))
      : none(`No run yet. A scheduler is expected to begin one every ${plural(view.intervalMinutes, 'minute')}.`),
  ];
};

const took = run => (run.finishedAt ? (Date.parse(run.finishedAt) - Date.parse(run.startedAt)) / 1000 : null);

const drawProgress = run => make('div', { class: 'notice' },
  make('p', {}, run.leaseExpired ? 'The run went silent: the next one takes over. ' : 'A run is in progress. ',
    `${run.policiesDone} of ${plural(run.policies, 'policy').replace('policys', 'policies')} done, ${number(run.rowsDone)} rows deleted.`),
  make('progress', { max: run.policies, value: run.policiesDone, 'aria-label': 'Policies done' }));

const drawRuns = runs => {
  if (!runs.length) return none('No run yet.');
  const oldestFirst = [...runs].reverse();
  return [
    bars(`Rows that the last ${runs.length} runs would have deleted and did delete`, oldestFirst.map(run => ({
      label: new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' }).format(new Date(run.startedAt)),
      title: `${run.startedAt}: would ${number(run.wouldDelete)}, did ${number(run.deleted)}`,
      back: run.wouldDelete, front: run.deleted }))),
    make('p', { class: 'legend soft' }, make('span', { class: 'key front' }), 'deleted ',
      make('span', { class: 'key back' }), 'would have been deleted'),
    drawRunTable('Latest runs', runs.slice(0, SHOWN)),
    runs.length > SHOWN ? make('details', {}, make('summary', {}, `${plural(runs.length - SHOWN, 'earlier run')}`),
      drawRunTable('Earlier runs', runs.slice(SHOWN))) : null,
  ];
};

const drawRunTable = (caption, runs) => table(caption,
  [['Begun'], ['Status'], ['By'], ['Would', true], ['Did', true], ['Below', true], ['Took', true], ['Back', true], ['']],
  runs.map(run => [moment(run.startedAt), [badge(run.mode === 'shadow' ? 'shadow' : run.status)], run.caller,
    number(run.wouldDelete), number(run.deleted), number(run.cascaded), duration(took(run)), number(run.restored),
    make('button', { type: 'button', class: 'button quiet small', 'aria-label': `Show the run of ${run.startedAt}`,
      onclick: () => openRun(run.id) }, 'Show')]));

const drawFunnel = funnel => {
  const { totals } = funnel;
  if (!totals.created) return none('No draft was begun in these days.');
  return [
    make('p', {}, `${plural(totals.created, 'draft')} begun, ${number(totals.activated)} activated (${
      percent(totals.conversionRatePercent)}), ${number(totals.abandoned)} deleted as abandoned, ${
      number(totals.restored)} of them brought back.`),
    bars('Drafts begun and activated by day', funnel.days.map(day => ({
      label: day.day.slice(5), faint: !day.complete, back: day.created, front: day.activated,
      mark: day.created ? day.activated / day.created : null,
      title: `${day.day}: ${number(day.created)} begun, ${number(day.activated)} activated${day.complete ? '' : ' so far'}` }))),
    make('p', { class: 'legend soft' }, make('span', { class: 'key front' }), 'activated ', make('span', { class: 'key back' }),
      'begun ', make('span', { class: 'key mark' }), 'share of activated, to 100 %. Pale: younger than 7 days, not complete.'),
    make('details', {}, make('summary', {}, 'As a table'), table('Drafts by day',
      [['Day'], ['Begun', true], ['Activated', true], ['In 24 h', true], ['In 7 d', true], ['Deleted', true], ['Back', true]],
      [...funnel.days].reverse().map(day => [day.day, ...[day.created, day.activated, day.activatedIn24Hours,
        day.activatedIn7Days, day.abandoned, day.restored].map(number)]))),
  ];
};

const drawBacklogTable = (caption, lines) => table(caption,
  [['Policy'], ['Table'], ['Left', true], ['Oldest'], ['Outcome'], ['As of']], lines.map(line => [line.policy,
    line.table ?? '–', number(line.rows), moment(line.oldest), [badge(line.outcome)], moment(line.at)]));

const drawBacklog = lines => {
  if (!lines.length) return none('No policy has run yet.');
  const open = lines.filter(line => line.rows !== 0 || line.outcome !== 'completed');
  const done = lines.filter(line => !open.includes(line));
  return [
    open.length ? drawBacklogTable('What the newest run of each policy left', open) : none('The newest run of each policy left nothing.'),
    done.length ? make('details', {}, make('summary', {}, `${plural(done.length, 'line')} with nothing left`),
      drawBacklogTable('Policies with nothing left', done)) : null,
  ];
};

const drawKinds = stats => {
  const middle = (each, write) => (each ? `${write(each.median)} (mean ${write(each.average)})` : '–');
  return [
    stats.kinds.length ? table('Sessions by kind', [['Kind'], ['Created', true], ['Converted', true], ['Ended', true], ['Abandoned', true],
      ['Duration', true], ['Participants', true], ['Commands', true]], stats.kinds.map(kind => [kind.kind, number(kind.created),
      percent(kind.conversionRatePercent), number(kind.ended), percent(kind.abandonedSharePercent),
      middle(kind.durationSeconds, duration), middle(kind.participants, number), middle(kind.commands, number)]))
      : none('No session was created in these days.'),
    make('dl', { class: 'facts' },
      make('dt', {}, 'Uploads that succeeded'), make('dd', {}, `${percent(stats.uploads.successRatePercent)} of ${number(stats.uploads.registered)}`),
      ...stats.feedback.flatMap(each => [make('dt', {}, `Feedback, ${each.mode ?? each.kind}`),
        make('dd', {}, `${each.averageScore} of 5 (${plural(each.answers, 'answer')})`)]),
      ...stats.items.slice(0, 3).flatMap(each => [make('dt', {}, `Item ${each.item}`), make('dd', {}, plural(each.uses, 'use'))])),
  ];
};

const drawHolds = holds => (holds.length
  ? make('ul', { class: 'items' }, holds.map(hold => make('li', { class: 'line' },
    make('span', {}, make('strong', {}, hold.target), ` ${hold.key}: ${hold.reason}`, hold.until ? [' until ', moment(hold.until)] : ''),
    make('button', { type: 'button', class: 'button quiet small', 'aria-label': `End the hold of ${hold.key}`,
      onclick: () => unhold(hold) }, 'End'))))
  : none('No row is on hold.'));
