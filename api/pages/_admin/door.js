// The admin secret, and every request. The secret is a variable of this module, and nothing else of the page sees it.
let secret = null;
let onSignedOut = () => {};
const IDLE_MS = 30 * 60 * 1000;
let idle;

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? problem?.title ?? `The API answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }
}

export const isSignedIn = () => secret !== null;
export const whenSignedOut = call => { onSignedOut = call; };

export const signOut = why => {
  secret = null;
  clearTimeout(idle);
  onSignedOut(why);
};

const stayed = () => {
  clearTimeout(idle);
  idle = setTimeout(() => isSignedIn() && signOut('You were signed out after 30 minutes without input.'), IDLE_MS);
};
for (const input of ['pointerdown', 'keydown', 'input']) addEventListener(input, stayed, { passive: true });
addEventListener('pagehide', () => isSignedIn() && signOut('Sign in again: the page was left.'));

/** Ask the API. Resolves to {status, body, tag}; throws Refused, TypeError (no network) or AbortError. */
export const ask = async (path, { method = 'GET', body, tag, signal } = {}) => {
  const used = secret;
  const headers = { Authorization: `Bearer ${used}` };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (tag) headers['If-None-Match'] = tag;
  const answer = await fetch(path, {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    redirect: 'error', credentials: 'omit', cache: 'no-store', referrerPolicy: 'no-referrer',
  });
  if (answer.status === 304) return { status: 304, tag };
  const said = await answer.json().catch(() => null);
  if (used !== secret) throw new DOMException('signed out meanwhile', 'AbortError');
  if (answer.status === 401 && isSignedIn()) signOut('The API does not accept this secret any more. Sign in again.');
  // A run that the breaker stopped, or of which a policy failed, answers with its report and a status of an error.
  if (!answer.ok && !(said && 'runId' in said && 'policies' in said)) throw new Refused(answer.status, said);
  return { status: answer.status, body: said, tag: answer.headers.get('ETag') };
};

/** Sign in: the secret is kept once the API has accepted it. Resolves to the first overview. */
export const signIn = async given => {
  secret = given;
  try {
    const first = await ask('/api/admin/overview');
    stayed();
    return first;
  } catch (error) {
    secret = null;
    throw error;
  }
};
