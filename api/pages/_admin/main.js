// The dashboard: signing in and out, and the refresh. What is shown is drawn in parts.js, what is done in actions.js.
import { draw, drawSlowly, drawAge } from './parts.js';
import { ask, isSignedIn, signIn, signOut, whenSignedOut } from './door.js';
import { startActions, simulate } from './actions.js';
import { byId, forget } from './elements.js';
import { drawRegret, startRegret } from './regret.js';

const EVERY_MS = 15_000;
const LONGEST_MS = 120_000;
const SLOWLY_MS = 60_000; // how often the statistics are read
const state = { tag: null, read: 0, readSlowly: 0, wait: EVERY_MS, error: null };
let timer, asking;

const sayTrouble = text => {
  byId('trouble').textContent = text ?? '';
  byId('trouble').hidden = !text;
};

const plan = () => {
  clearTimeout(timer);
  if (isSignedIn() && !document.hidden) timer = setTimeout(refresh, state.wait);
};

/** Read the overview, and now and then the statistics. Never two at once; errors wait longer each time. */
export const refresh = async ({ slowly = false } = {}) => {
  if (asking || !isSignedIn()) return;
  clearTimeout(timer);
  asking = new AbortController();
  try {
    const signal = AbortSignal.any([asking.signal, AbortSignal.timeout(20_000)]);
    const answer = await ask('/api/admin/overview', { tag: state.tag, signal });
    if (answer.status !== 304) draw(answer.body);
    state.tag = answer.tag;
    if (slowly || answer.status !== 304 || Date.now() - state.readSlowly > SLOWLY_MS) {
      const [funnel, stats, holds] = await Promise.all(['funnel?days=14', 'stats?days=7', 'holds?limit=20'].map(
        path => ask(`/api/admin/${path}`, { signal })));
      drawSlowly(funnel.body, stats.body, holds.body);
      await drawRegret({ signal });
      state.readSlowly = Date.now();
    }
    Object.assign(state, { read: Date.now(), wait: EVERY_MS, error: null });
    sayTrouble(null);
  } catch (error) {
    if (isSignedIn()) {
      state.wait = Math.min(LONGEST_MS, state.wait * 2);
      state.error = error.status ? error.message : 'The API does not answer.';
      sayTrouble(`${state.error} What is shown is of the last answer. Next try in ${Math.round(state.wait / 1000)} s, or press Refresh.`);
    }
  }
  asking = undefined;
  drawAge(state);
  plan();
};

const open = first => {
  byId('door').hidden = true;
  byId('board').hidden = false;
  forget();
  byId('notice').hidden = true;
  Object.assign(state, { tag: null, read: Date.now(), readSlowly: 0, wait: EVERY_MS, error: null });
  draw(first.body);
  byId('refresh').focus();
  simulate();
  refresh({ slowly: true });
};

whenSignedOut(why => {
  asking?.abort();
  asking = undefined;
  clearTimeout(timer);
  byId('dialog').close();
  byId('board').hidden = true;
  byId('door').hidden = false;
  byId('door-says').textContent = why ?? 'You are signed out.';
  byId('secret').focus();
});

byId('sign-in').addEventListener('submit', async event => {
  event.preventDefault();
  const field = byId('secret');
  const given = field.value.trim();
  field.value = '';
  byId('door-says').textContent = 'Asking the API …';
  try {
    open(await signIn(given));
  } catch (error) {
    const said = error.status === 401 ? 'This is not the admin secret.' : error.status ? error.message
      : 'The API does not answer. Try again.';
    byId('door-says').textContent = said;
    field.focus();
  }
});
byId('sign-out').addEventListener('click', () => signOut());
byId('refresh').addEventListener('click', () => {
  state.wait = EVERY_MS;
  refresh({ slowly: true });
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && Date.now() - state.read > EVERY_MS) refresh();
  else plan();
});
setInterval(() => isSignedIn() && drawAge(state), 1000);
startRegret(error => isSignedIn() && sayTrouble(error.status ? error.message : 'The API does not answer.'));
startActions(() => refresh({ slowly: true }));
