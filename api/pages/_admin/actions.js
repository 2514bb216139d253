// What an operator does here: simulate, run, restore, pause, hold, find, examine.
import { ask, isSignedIn } from './door.js';
import { badge, button, byId, duration, fill, make, moment, number, plural, table } from './elements.js';

const WAIT_MS = 400;
const MOST_CALLS = 20; // of one restore that goes on
let changed = () => {};
let typing, simulation, preview;

const say = (text, tone = 'good') => {
  byId('notice').textContent = text;
  byId('notice').className = `notice ${tone}`;
  byId('notice').hidden = false;
};

/** Do something with a button disabled; say what went wrong. */
const doing = async (control, act) => {
  if (control) control.disabled = true;
  try {
    await act();
  } catch (error) {
    if (isSignedIn() && error.name !== 'AbortError') {
      say(error.status ? error.message : 'The API does not answer. Whether it was done is not known: look before you repeat it.', 'bad');
    }
  } finally {
    if (control) control.disabled = false;
  }
};

const openDialog = (title, body, actions) => {
  byId('dialog-title').textContent = title;
  fill('dialog-body', body);
  fill('dialog-actions', actions, button('Close', () => byId('dialog').close(), 'button quiet'));
  if (!byId('dialog').open) byId('dialog').showModal();
};

/** Run the dry run at the slider's age. The one before is aborted. Without an age it is that of the settings. */
export const simulate = async hours => {
  simulation?.abort();
  simulation = new AbortController();
  const { signal } = simulation;
  fill('dry', make('p', { class: 'soft' }, 'Counting …'));
  try {
    const asked = hours ? `&thresholdHours=${hours}` : '';
    const { body } = await ask(`/api/admin/cleanup-sessions?dryRun=true${asked}`, { signal });
    if (!hours) {
      preview = body;
      byId('hours').value = body.thresholdHours;
      showHours();
    }
    fill('dry', drawPreview(body));
  } catch (error) {
    if (error.name !== 'AbortError') fill('dry', make('p', { class: 'notice bad' }, error.status ? error.message : 'The API does not answer.'));
  }
};

const showHours = () => {
  const hours = Number(byId('hours').value);
  byId('hours-text').textContent = `${plural(hours, 'hour')}${preview?.thresholdHours === hours ? ' (as set)' : ''}`;
};

const drawPreview = body => {
  const stopped = body.policies.filter(each => each.stop);
  const found = body.policies.filter(each => each.wouldDelete !== 0 || each.error);
  return [
    make('p', {}, make('strong', {}, `${body.wouldDelete === null ? 'An unknown number of' : number(body.wouldDelete)} abandoned drafts`),
      ` at ${plural(body.thresholdHours, 'hour')}; `, found.length ? 'by policy:' : 'no policy would delete anything.'),
    ...stopped.map(each => make('p', { class: 'notice warn' }, `${each.name}: the breaker stops it. ${each.stopReason ?? ''}`)),
    found.length ? table('Dry run by policy', [['Policy'], ['Table'], ['Rows', true], ['Below', true], ['Files', true], ['Restorable'], ['Oldest']],
      found.map(each => [each.name, each.table ?? '–', each.error ?? `${number(each.wouldDelete)}${each.capped ? '+' : ''}`,
        number(each.cascadedTotal), number(each.files), each.archived ? plural(each.restoreDays, 'day') : 'no', moment(each.oldest)])) : null,
    body.sessions.length ? make('details', {}, make('summary', {}, `The ${body.sessions.length} oldest`),
      table('Sample', [['Id'], ['Last used'], ['Age'], ['Files', true], ['Why']], body.sessions.map(each => [each.id, moment(each.lastActivityAt),
        each.age, number(each.files), each.reason]))) : null,
  ];
};

const run = async control => doing(control, async () => {
  const { body } = await ask('/api/admin/cleanup-sessions?dryRun=true');
  const rows = body.policies.reduce((sum, each) => sum + (each.stop ? 0 : each.wouldDelete ?? 0), 0);
  const below = body.policies.reduce((sum, each) => sum + (each.stop ? 0 : each.cascadedTotal), 0);
  const go = button(`Delete ${plural(rows, 'row')}`, () => doing(go, async () => {
    const { body: report } = await ask('/api/admin/cleanup-sessions', { method: 'POST' });
    byId('dialog').close();
    const deleted = report.policies?.reduce((sum, each) => sum + each.deleted, 0) ?? 0;
    const faults = report.policies?.filter(each => ['failed', 'stopped'].includes(each.outcome)) ?? [];
    if (report.skipped) say(report.message, 'warn');
    else say(`The run deleted ${plural(deleted, 'row')} in ${duration(report.durationMs / 1000)}.${report.hasMore ? ' More is left for the next run.' : ''}${
      faults.map(each => ` ${each.name} ${each.outcome}: ${each.stopReason ?? each.error}`).join('')}`, faults.length ? 'bad' : 'good');
    changed();
    simulate();
  }), 'button');
  openDialog('Run the cleanup now?', [make('p', {}, `It deletes ${plural(rows, 'row')} and ${number(below)} below, as the dry run shows it. `,
    'What the policies archive can be brought back here.'), ...drawPreview(body).slice(1)], [go]);
});

/** Restore by repeating the call while rows remain. Resolves to what came back. */
const restore = async (path, body) => {
  const sum = { restored: 0, children: 0, missing: 0, hasMore: true };
  for (let calls = 0; sum.hasMore && calls < MOST_CALLS; calls += 1) {
    const { body: report } = await ask(path, { method: 'POST', body });
    sum.restored += report.restored;
    sum.children += report.children;
    sum.missing = report.missingTotal;
    sum.hasMore = report.hasMore && report.restored > 0;
  }
  return sum;
};

const sayRestored = sum => {
  say(`${plural(sum.restored, 'row')} and ${number(sum.children)} below are back.${sum.missing ? ` ${plural(sum.missing, 'row')
    } could not come back whole and stay archived: the doctor names them.` : ''}`, sum.missing ? 'warn' : 'good');
  changed();
};

/** Show a run by policy, with a button that brings back what it archived. */
export const openRun = id => doing(null, async () => {
  const { body } = await ask(`/api/admin/runs/${id}`);
  const lines = body.lines.filter(line => line.deleted || line.wouldDelete || !['completed'].includes(line.outcome));
  const back = button('Restore what it deleted', () => doing(back, async () => {
    const sum = await restore(`/api/admin/runs/${id}/restore`, {});
    byId('dialog').close();
    sayRestored(sum);
  }), 'button');
  openDialog('Run', [
    make('p', {}, badge(body.run.status), ' ', moment(body.run.startedAt), ` by ${body.run.caller}: ${plural(body.run.deleted, 'row')} and ${
      number(body.run.cascaded)} below deleted, ${number(body.run.restored)} brought back.`),
    make('p', { class: 'soft' }, `Id ${id}`),
    lines.length ? table('The run by policy', [['Policy'], ['Table'], ['Outcome'], ['Would', true], ['Did', true], ['Below', true], ['Took', true], ['Back', true]],
      lines.map(line => [line.name, line.table ?? '–', [badge(line.outcome)], number(line.wouldDelete), number(line.deleted),
        number(line.cascaded), duration(line.ms / 1000), number(line.restored)])) : make('p', {}, 'It found nothing to delete.'),
    ...lines.filter(line => line.stopReason || line.error).map(line => make('p', { class: 'notice bad' }, `${line.name}: ${line.stopReason ?? line.error}`)),
    ...lines.flatMap(line => [...line.skippedRows, ...line.keptRows].slice(0, 5).map(row => make('p', { class: 'notice warn' }, `${line.name}, ${row.key}: ${row.reason}`))),
  ], body.run.deleted > body.run.restored ? [back] : []);
});

const find = async control => doing(control, async () => {
  const text = byId('find-text').value.trim();
  const isOwner = /^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(text) || text.includes('@');
  fill('found', make('p', { class: 'soft' }, 'Looking …'));
  const read = async name => (await ask(`/api/admin/archive?${new URLSearchParams({ [name]: text, limit: 20 })}`)).body.archived;
  let archived = [];
  try {
    archived = isOwner ? await read('owner').catch(error => { if (error.status === 404) return []; throw error; }) : [];
    if (!archived.length) archived = await read('text');
  } catch (error) {
    fill('found');
    throw error;
  }
  fill('found', archived.length ? make('ul', { class: 'items' }, archived.map(drawArchived))
    : make('p', { class: 'soft' }, 'Nothing archived matches. A row that was purged is gone.'));
});

const drawArchived = each => {
  const name = each.row?.title ?? each.row?.name ?? each.key;
  const back = make('button', { type: 'button', class: 'button quiet small', 'aria-label': `Bring back ${name}`, onclick: () => doing(back, async () => {
    const sum = await restore('/api/admin/archive/restore', { target: each.target, ids: [each.key] });
    back.closest('li').replaceChildren(make('span', {}, make('strong', {}, name), sum.restored ? ' is back.' : ' is not back: the doctor says why.'));
    sayRestored(sum);
  }) }, 'Bring back');
  return make('li', { class: 'line' }, make('span', {}, make('strong', {}, name), ` ${[each.row?.kind, each.row?.status].filter(Boolean).join(', ')} of ${each.target}, archived `,
    moment(each.archivedAt), ' by ', each.policy, each.purgeAfter ? ['; kept until ', moment(each.purgeAfter)] : '',
    each.reason ? `. Not whole: ${each.reason}` : ''), back);
};

const pause = control => doing(control, async () => {
  if (control.dataset.paused === 'true') {
    await ask('/api/admin/unpause', { method: 'POST', body: {} });
    say('The cleanup goes on: the next call of the scheduler runs.');
    changed();
    return;
  }
  const reason = make('input', { maxlength: '200', required: true, id: 'pause-reason', autocomplete: 'off' });
  const go = button('Pause all policies', () => reason.reportValidity() && doing(go, async () => {
    await ask('/api/admin/pause', { method: 'POST', body: { reason: reason.value.trim() } });
    byId('dialog').close();
    say('The cleanup is paused. A run in flight stops at its next batch; nothing is deleted until you unpause.', 'warn');
    changed();
  }), 'button');
  openDialog('Pause the cleanup?', [make('p', {}, 'No policy deletes anything until you unpause. After 7 days an alert reminds you.'),
    make('label', { class: 'field', for: 'pause-reason' }, 'Reason', reason)], [go]);
  reason.focus();
});

/** End a hold. */
export const unhold = hold => doing(null, async () => {
  await ask(`/api/admin/holds?${new URLSearchParams({ target: hold.target, key: hold.key })}`, { method: 'DELETE' });
  say(`The hold of ${hold.key} is over: policies judge the row again.`);
  changed();
});

const hold = control => doing(control, async () => {
  const [target, key, reason] = ['target', 'key', 'reason'].map(name => byId(`hold-${name}`).value.trim());
  await ask('/api/admin/holds', { method: 'POST', body: { target, key, reason } });
  byId('hold-key').value = byId('hold-reason').value = '';
  say(`No policy deletes ${key} while the hold lasts.`);
  changed();
});

const examine = control => doing(control, async () => {
  fill('doctor', make('p', { class: 'soft' }, 'Checking …'));
  try {
    const { body } = await ask('/api/admin/doctor');
    fill('doctor', make('ul', { class: 'items' }, body.checks.map(each => make('li', { class: 'check' }, badge(each.status), ' ',
      make('strong', {}, each.check), ` ${each.message}`, each.fix ? make('p', { class: 'soft' }, `To do: ${each.fix}`) : null))));
  } catch (error) {
    fill('doctor');
    throw error;
  }
});

/** Connect the page's controls. `afterChange` is called when something was changed. */
export const startActions = afterChange => {
  changed = afterChange;
  byId('hours').addEventListener('input', () => {
    showHours();
    clearTimeout(typing);
    typing = setTimeout(() => simulate(Number(byId('hours').value)), WAIT_MS);
  });
  byId('dialog').addEventListener('submit', event => event.preventDefault());
  for (const [id, act] of [['run', run], ['pause', pause], ['examine', examine]]) {
    byId(id).addEventListener('click', event => act(event.currentTarget));
  }
  for (const [id, act] of [['find', find], ['hold', hold]]) {
    byId(id).addEventListener('submit', event => {
      event.preventDefault();
      act(event.submitter);
    });
  }
};
