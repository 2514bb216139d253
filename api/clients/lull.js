/**
 * Lull in a browser: a session from its draft to its end. One module, no dependencies, served at /lull.js.
 *
 *     import { open } from 'https://lull.example.com/lull.js';
 *     const lull = await open({ api: 'https://lull.example.com', key: 'support', deliver });   // create, or fall back
 *     await lull.attach(file);                                                                 // before any message
 *     await lull.send('Hello');                                                                // activates it
 *
 * What it promises:
 * - State outlives reloads and network loss. A store that is full or forbidden is told as `kept: false`.
 * - Every request for a message carries the key that was stored before the first of them.
 * - One tab of a session sends at a time, and one tab beats (Web Locks).
 * - Nothing that was written or attached is lost in silence: it is sent, kept, or handed back by an event.
 *
 * It needs a browser of 2024 or newer, and a secure context (https, or localhost). docs/browser.md is its guide.
 * What is served is _lull.min.js, made from this file by `python -m tests.browser.build`, as the types in lull.d.ts are. In
 * the code `s` is the stored state, `i` an item of it (a message or a file).
 */

/**
 * @typedef {'sent' | 'queued' | 'ask'} Sent `ask`: older than an hour; `send(text, {evenIfOld: true})` sends it.
 * @typedef {'uploaded' | 'kept' | 'not-kept'} Attachment `not-kept`: uploaded later, if this page lives that long.
 * @typedef {'state' | 'queue' | 'warning' | 'expired' | 'returned' | 'lost' | 'error'} Happening
 * @typedef {{id: string, name: string | null, state: 'here' | 'away', joinedAt: string, you: boolean}} Participant
 *
 * @typedef {object} Item A message (with `text`), or a file (with `name`, `size`, `type`) and its upload.
 * @property {string} key Drawn once: every request for the item carries it.
 * @property {number} at When it was added, by this clock.
 * @property {Sent | Attachment} state
 * @property {string} [text]
 * @property {boolean} [ok] The user wants an old message to be sent.
 * @property {number} [sentAt]
 * @property {string} [name]
 * @property {number} [size]
 * @property {string} [type]
 * @property {string} [id]
 * @property {string} [url]
 * @property {number} [until] When the upload's URL ends.
 *
 * @typedef {object} State What is stored.
 * @property {string} [id] The session's.
 * @property {string} [status]
 * @property {string} [token] The session's token, of an owner without an account.
 * @property {string} [seat] The participant's token.
 * @property {string} [anonymousId]
 * @property {string | null} [subject] The user's id.
 * @property {{key: string, at: number, status: string}} [create] The key with which the session is created.
 * @property {boolean} [archived]
 * @property {Item[]} items
 * @property {number} [at] When the server last answered, by this clock.
 * @property {number} [offset] The server's clock less this one, in milliseconds.
 *
 * @typedef {object} View What `state` tells.
 * @property {string} [sessionId]
 * @property {string} status none, draft, active, paused, or archived: the first message brings the draft back.
 * @property {boolean} [early] Whether the session may begin before its first message; undefined: not known yet.
 * @property {boolean} kept Whether a reload finds this state again.
 * @property {boolean} present Whether this page has joined.
 * @property {string} [expiresAt]
 * @property {number} [retryAt] When the next try is due, while the server cannot be reached.
 * @property {Item[]} messages
 * @property {Item[]} files
 *
 * @typedef {object} LullError An Error for the page.
 * @property {string} code sign-in, not-yours, wrong-status, expired, changed, rejected, waiting, early-off, removed,
 *   full, lost, or too-old.
 * @property {string} message A sentence for the user.
 * @property {string[]} texts Messages that are handed back: they will not be sent.
 * @property {number} [status] Of the answer.
 * @property {string} [type] Of the problem.
 * @property {string} [field] The first one that the server refused.
 * @property {number} [retryAt]
 *
 * @typedef {object} Options
 * @property {string} api Where Lull answers; '' is this page's own origin.
 * @property {string} key A name for this session in this browser: the same key finds the same session again.
 * @property {'chat' | 'room'} [kind] Default `chat`.
 * @property {object} [create] More fields of the session that is created: title, metadata, table.
 * @property {string} [name] The user's name for the others in the session.
 * @property {{sessionId: string, invite?: string, name?: string}} [join] Join this session instead of creating one.
 * @property {() => Promise<string | null>} [token] The user's access token; it is asked for anew at each request.
 * @property {'local' | 'session' | 'memory'} [storage] Where state is kept. Default `local`.
 * @property {(message: {sessionId: string, text: string, idempotencyKey: string, signal: AbortSignal}) =>
 *   Promise<unknown>} deliver Stores a message in the application, once for each key. A rejection with a `status` of
 *   4xx refuses the message; any other rejection is a reason to try again.
 *
 * @typedef {object} Lull
 * @property {(event: Happening, listener: (detail: any) => unknown) => () => void} on Returns what stops listening. A
 *   caller that listens in the turn after `open` misses nothing.
 * @property {View} state
 * @property {(file: File) => Promise<Attachment>} attach
 * @property {(text: string, options?: {evenIfOld?: true}) => Promise<Sent>} send
 * @property {() => Promise<void>} stay The user wants to stay: moves the session's clock.
 * @property {() => Promise<void>} end Ends the session; a draft is discarded.
 * @property {() => Promise<void>} forget Removes what this browser knows, and ends nothing.
 * @property {() => Promise<unknown>} discardQueued
 * @property {() => Promise<Participant[]>} participants
 * @property {(method: string, end: string, body?: object) => Promise<any>} call Any other route of the session, with
 *   the caller's credentials: `call('POST', '/invites', {maxUses: 1})`.
 * @property {() => void} close Leaves, and stops; the state stays for the next `open`.
 */

const MINUTE = 6e4, HOUR = 60 * MINUTE, now = Date.now, uuid = () => crypto.randomUUID();
let isLeaving = false; // a page with two sessions is redirected once
const SIGN_IN = 'Please sign in again. What you wrote is kept here, and is sent then.';
// What an answer means to a page: by the type of the problem, else by its status.
/** @type {Record<string, string>} */
const CODES = {
  'early-sessions-off': 'waiting', 'participant-left': 'left', 'participant-removed': 'removed', 'session-full': 'full',
  'too-many-files': 'rejected', 'file-mismatch': 'rejected', 'file-not-uploaded': 'rejected', 401: 'sign-in',
  403: 'not-yours', 404: 'not-yours', 408: 'waiting', 409: 'wrong-status', 410: 'expired', 412: 'changed',
  429: 'waiting',
};

/** @param {string} code @param {string} message @param {Partial<LullError>} [more] @returns {LullError & Error} */
const fail = (code, message, more) => Object.assign(new Error(message), { code, texts: [], ...more });
const away = () => fail('waiting', 'The server cannot be reached now.');
/** @param {any} error @returns {LullError} */
const asError = error => error?.texts ? error : away();
/** The user's id in an access token. @param {any} token @returns {string | undefined} */
const subjectOf = token => {
  try {
    return token && JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).sub;
  } catch {
    return 'unknown';
  }
};
/**
 * Files that wait for the network, as Blobs in IndexedDB. Answers undefined where that is refused.
 * @param {(files: IDBObjectStore) => IDBRequest} ask @returns {Promise<any>}
 */
const inFiles = ask => new Promise((done, failed) => {
  const request = indexedDB.open('lull', 1);
  request.onerror = failed;
  request.onupgradeneeded = () => request.result.createObjectStore('files');
  request.onsuccess = () => {
    const transaction = request.result.transaction('files', 'readwrite');
    const answer = ask(transaction.objectStore('files'));
    transaction.onabort = failed;
    transaction.oncomplete = () => done(answer.result);
  };
}).catch(() => {});

/**
 * Open the session of this key: find it again, join it, or create it. Resolves after the first try, whether or not the
 * server could be reached: what failed is told by `error`, and tried again.
 * @param {Options} options @returns {Promise<Lull>}
 */
export async function open(options) {
  const { join: other, kind = 'chat', storage = 'local' } = options, tab = uuid();
  const { href, origin } = new URL(options.api || '/', location.href), base = href.replace(/\/$/, '');
  const name = `lull:1:${origin}:${options.key}`;
  /** @type {Map<string, Blob>} */ const blobs = new Map();
  /** @type {Map<string, LullError>} */ const failures = new Map();
  /** @type {Set<string>} */ const fresh = new Set(); // messages that the user has sent just now
  /** @type {boolean | undefined} */ let early;

  // Events, from the turn after `open` on: a caller that listens at once hears everything.
  const target = new EventTarget();
  /** @type {{promise: Promise<unknown>, resolve: (value?: unknown) => void}} */
  const { promise: ready, resolve: opened } = Promise.withResolvers();
  /** Whether no listener answered false. @param {Happening} event @param {any} detail */
  const emit = (event, detail) => ready.then(
    () => target.dispatchEvent(new CustomEvent(event, { detail, cancelable: true })),
  );

  // State. A write that the browser refuses goes to memory, and reads look there first: a full store would otherwise
  // bring back what it had before.
  /** @type {Storage | undefined} */ let area;
  let memory = '';
  try {
    area = /** @type {any} */ (self)[storage + 'Storage'];
  } catch {}
  const locks = area && storage === 'local' ? navigator.locks : undefined;
  /** @returns {State} */
  const read = () => ({ items: [], ...JSON.parse(memory || area?.getItem(name) || '{}') });
  let { offset = 0, at = now() } = read();
  /** @template T @param {string} what @param {() => T} work @returns {Promise<Awaited<T>>} */
  const exclusive = async (what, work) => /** @type {any} */ (locks?.request(name + what, work) ?? work());
  /** @param {(s: State) => unknown} change */
  const update = change => exclusive(':state', () => {
    const s = read();
    change(s);
    memory = JSON.stringify({ ...s, at, offset });
    try {
      area?.setItem(name, memory);
      if (area) memory = '';
    } catch {}
    tell();
  });
  /** @returns {View} */
  const view = () => {
    const { id, status = 'none', archived, items } = read();
    return {
      sessionId: id, status: archived ? 'archived' : status, early, kept: !!area && !memory, present: joined, expiresAt,
      retryAt, messages: items.filter(i => i.text), files: items.filter(i => i.name),
    };
  };
  const tell = () => (emit('state', view()), emit('queue', view()));
  const waiting = () => read().items.filter(i => !/sent|uploaded/.test(i.state));
  /** @param {string} key @param {Partial<Item>} changes */
  const mark = (key, changes) => update(s => Object.assign(s.items.find(i => i.key === key) ?? {}, changes));
  /** @param {string} key */
  const unkeep = key => (blobs.delete(key), inFiles(files => files.delete(key)));
  /** Take an item out, and hand it back. @param {Item} item @param {LullError} error */
  const giveUp = async ({ key, text, name, size }, error) => {
    failures.set(key, error);
    await update(s => s.items = s.items.filter(i => i.key !== key));
    await unkeep(key);
    text ? error.texts.push(text) : emit('lost', { name, size, reason: error.message });
  };
  const drop = async () => {
    joined = warned = false;
    for (const { key } of waiting()) await unkeep(key);
    await exclusive(':state', () => {
      memory = '';
      area?.removeItem(name);
    });
    tell();
  };

  // Requests. `seat`: the participant's token suffices, and outlives an access token.
  const path = (end = '') => `/api/sessions/${read().id}${end}`;
  let stop = new AbortController(), tried = now();
  const signal = () => AbortSignal.any([stop.signal, AbortSignal.timeout(MINUTE / 2)]);
  /** @param {string} method @param {string} address @param {{body?: object, key?: string, seat?: boolean}} [more] */
  const call = async (method, address, { body, key, seat } = {}) => {
    for (let again = false; ; again = true) {
      const s = read(), only = seat && s.seat, access = !only && await options.token?.();
      // A browser that says it is offline is believed for a minute: a server on the same machine may still answer.
      if (!navigator.onLine && now() - tried < MINUTE) throw away();
      tried = now();
      const headers = JSON.parse(JSON.stringify({
        'Content-Type': 'application/json', 'Idempotency-Key': key, 'X-Participant-Token': s.seat,
        'X-Session-Token': only ? undefined : s.token, Authorization: access ? `Bearer ${access}` : undefined,
      })); // without what is undefined
      const answer = await fetch(base + address, { method, headers, body: JSON.stringify(body), signal: signal() });
      const { ok, status, headers: said } = answer, data = status === 204 || await answer.json();
      at = now();
      offset = Date.parse(said.get('Date') ?? '') - at || offset;
      if (ok) return { data, restored: said.get('Session-Restored') === 'true' };
      if (status === 401 && options.token && !again) continue;
      const { type = '', detail = `The server answered ${status}.`, errors } = data;
      const code = status < 500 ? CODES[type.split(':').pop()] ?? CODES[status] ?? 'rejected' : 'waiting';
      throw fail(code, status === 401 ? SIGN_IN : detail, {
        status, type, field: errors?.[0].field, retryAt: at + 1000 * Number(said.get('Retry-After')),
      });
    }
  };

  // The session: found again, joined, or created.
  /** @returns {Promise<unknown>} */
  const ensure = async () => {
    const subject = subjectOf(await options.token?.());
    const { id = other?.sessionId, subject: before, create, token } = read();
    if (before && !subject) throw fail('sign-in', SIGN_IN);
    if (before && before !== subject || other && id !== other.sessionId) {
      await settle(fail('changed', 'This belongs to another session.'));
      return ensure();
    }
    if (id && subject && token) {
      // the user signed in meanwhile; where the claim is refused, the session's token goes on proving the ownership
      await call('POST', path('/claim-ownership')).then(() => update(s => delete s.token), () => {});
    }
    if (id) return update(s => Object.assign(s, { id, subject }));
    early = kind !== 'chat' || (await call('GET', '/api/flags')).data.flags.earlySessionCreation.value;
    if (!early && !waiting().some(i => i.text && !isOld(i))) return;
    const status = early ? 'draft' : 'active', again = create?.status === status && now() - create.at < 24 * HOUR;
    const key = again ? create.key : uuid();
    await update(s => s.create = again ? create : { key, at: now(), status });
    const { data } = await call('POST', '/api/sessions', { key, body: { ...options.create, kind, status } });
    await update(s => Object.assign(s, { id: data.session.id, status, token: data.sessionToken, subject }));
    over = !(asked = now());
  };

  // Files: registered once, put, completed. Each step may be repeated.
  /** @param {Item} item */
  const upload = async ({ key, name, size, type = '', id, url = '', until = 0 }) => {
    const body = blobs.get(key) ?? await inFiles(files => files.get(key));
    if (!body) throw fail('lost', 'The browser did not keep the file.');
    if (until < now()) {
      const { data } = await call('POST', path('/files'), { body: { name, size, contentType: type } });
      ({ file: { id }, upload: { url } } = data);
      await mark(key, { id, url, until: Date.parse(data.upload.expiresAt) });
    }
    const headers = { 'Content-Type': type };
    const { status } = await fetch(url, { method: 'PUT', body, headers, signal: stop.signal });
    if (status >= 500) throw away();
    await call('POST', path(`/files/${id}/complete`));
    await mark(key, { state: 'uploaded' });
    await unkeep(key);
  };

  // Messages: the first one activates the session; each is delivered with its own key.
  /** @param {Item} item */
  const post = async ({ key, text = '', at: written }) => {
    const { id = '', status, archived } = read(), limit = signal();
    if (now() - written > 168 * HOUR) throw fail('too-old', 'This is over a week old, and is not sent.');
    if (status !== 'active' && !other) {
      const { data, restored } = await call('POST', path('/activate'));
      await update(s => Object.assign(s, { status: data.session.status, archived: false }));
      if (archived || restored) emit('returned', { sessionId: id });
    }
    await Promise.race([
      options.deliver({ sessionId: id, text, idempotencyKey: key, signal: limit }),
      new Promise((_, failed) => limit.addEventListener('abort', failed)),
    ]).catch(({ status, message }) => {
      if (status === 401) throw fail('sign-in', SIGN_IN);
      const isFinal = status >= 400 && status < 500 && CODES[status] !== 'waiting';
      throw isFinal ? fail('rejected', message, { status }) : away();
    });
    await mark(key, { state: 'sent', sentAt: now() });
  };

  // A message that waited for an hour, or whose age cannot be told by this clock, is asked about.
  /** @param {Item} item */
  const isOld = ({ key, at: written, ok, state }) => !ok && !fresh.has(key)
    && (state === 'ask' || !(written <= now() && now() - written < HOUR && Math.abs(offset) < 5 * MINUTE));

  // Bring the server up to date: one tab at a time, in order, again after a failure.
  let failed = 0, retrying = 0;
  /** @type {Promise<unknown>} */ let running = Promise.resolve();
  /** @type {number | undefined} */ let retryAt;
  const run = () => exclusive(':flush', async () => {
    clearTimeout(retrying);
    retryAt = undefined;
    try {
      await ensure();
      for (const { key, text, state } of read().id ? waiting() : []) {
        const item = read().items.find(i => i.key === key);
        // discarded meanwhile, or in the memory of another tab
        if (!item || state === 'not-kept' && !blobs.has(key) && !alone) continue;
        if (text && isOld(item)) {
          await mark(key, { state: 'ask' });
          break;
        }
        try {
          await (text ? post(item) : upload(item));
        } catch (reason) {
          const error = asError(reason);
          if (!/rejected|lost|too-old/.test(error.code)) throw error;
          await giveUp(item, error);
          if (text) emit('error', error);
        }
      }
      failed = 0;
    } catch (reason) {
      const error = asError(reason), delay = Math.min(MINUTE, 200 * 2 ** failed++);
      if (error.code !== 'waiting') return settle(error);
      error.retryAt = retryAt = Math.max(error.retryAt ?? 0, now() + delay * (1 + Math.random()) / 2);
      if (!stop.signal.aborted) retrying = setTimeout(sync, retryAt - now());
      emit('error', error);
    }
    tell();
  });
  /** @returns {Promise<unknown>} */
  const sync = () => (running = running.then(run)).then(() => joined || tick());

  // Presence: each tab joins; the one that has the lock beats. Expiry is told by each beat, and asked every five
  // minutes, when the page is visible again, and when a warning is due.
  let joined = false, over = false, warned = false, ticking = 0, beatSeconds = 30, heard = now(), asked = 0;
  let expiresAt = '', warnAt = '';
  /** @type {BroadcastChannel} */ let channel;
  /** @type {((value: unknown) => void) | undefined} */ let release;
  /** @param {boolean} [steal] */
  const hold = steal => {
    const { signal } = stop;
    locks?.request(`${name}:beat`, steal ? { steal } : { signal }, () => new Promise(done => release = done))
      .catch(() => signal.aborted || hold(void (release = undefined))); // stolen
  };
  const isDue = () => Date.parse(warnAt) <= now() + offset;
  /** @param {boolean} [ask] @returns {Promise<unknown>} */
  const tick = async ask => {
    clearTimeout(ticking);
    const { id, seat, archived, anonymousId = uuid() } = read(), hidden = document.hidden;
    if (!id || archived || over || stop.signal.aborted) return;
    const wait = 1000 * (hidden ? Math.max(60, beatSeconds) : beatSeconds), left = Date.parse(warnAt) - now() - offset;
    ticking = setTimeout(tick, left > 0 ? Math.min(wait, left + 500) : wait);
    try {
      if ((seat || !other) && (ask || now() - asked > 5 * MINUTE || !warned && isDue())) {
        asked = now();
        const { data } = await call('GET', path('/expiry'), { seat: true }), { reason, expired } = data;
        if (reason === 'cleaned' && kind === 'chat' && !other) return await update(s => s.archived = true);
        if (expired || reason === 'ended') throw fail(expired ? 'expired' : 'wrong-status', 'This session is over.');
        await learn({ ...data, status: reason === 'never' ? 'active' : reason });
        if (isDue()) return void emit('warning', warned = data);
      }
      if (!joined) {
        joined = true;
        await update(s => s.anonymousId = anonymousId);
        const { invite, name = options.name } = other ?? {}, accessMethod = invite ? 'invite' : 'direct';
        const { data } = await call('POST', path('/join'), { body: { accessMethod, invite, name, anonymousId, tab } });
        await update(s => s.seat = data.participantToken);
        await learn(data);
      } else if (!locks || release) {
        await learn((await call('POST', path('/heartbeat'), { body: { tab }, seat: true })).data);
      } else if (!hidden && now() - heard > 1000 * Math.max(90, 3 * beatSeconds)) {
        hold(true);
      }
    } catch (reason) {
      const error = asError(reason), left = error.code === 'left';
      joined &&= !!read().seat && !left;
      if (error.retryAt && error.retryAt > now()) {
        clearTimeout(ticking);
        ticking = setTimeout(tick, error.retryAt - now());
      }
      await (left ? tick() : settle(error));
    }
  };
  /** @param {any} news @param {boolean} [told] by another tab */
  const learn = async (news, told) => {
    if (stop.signal.aborted) return;
    heard = now();
    told || channel.postMessage(news);
    if (news.texts) {
      over = true;
      emit('expired', news).then(goes => {
        if (!goes || news.texts.length || isLeaving) return;
        isLeaving = true;
        location.replace(base + news.page);
      });
      return;
    }
    ({ beatSeconds = beatSeconds, expiresAt, warnAt } = news);
    if (warned && !isDue()) emit('warning', warned = false);
    await (told || update(s => s.status = news.status ?? s.status));
    tell();
  };

  // What cannot be repeated ends here: texts are handed back, and the state goes as the session has gone.
  /** @param {LullError} error */
  const settle = async error => {
    const { code, message, texts, type = '' } = error;
    if (code === 'waiting') return;
    over ||= code === 'removed';
    if (/expired|yours|wrong|changed|old/.test(code)) {
      for (const item of waiting()) await giveUp(item, error);
      await drop();
    }
    if (code !== 'expired') emit('error', error);
    else learn({ message, texts, page: /:invite/.test(type) ? '/expired?reason=invite' : '/expired' });
  };

  // The page's own life. In the cache of pages that were left (bfcache) nothing is held: another tab beats and sends.
  const appear = async () => {
    stop = new AbortController();
    channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }) => learn(data, true);
    hold();
    await sync();
  };
  /** @param {{type: string}} event */
  const vanish = ({ type }) => {
    const { seat } = read();
    if (type !== 'freeze' && joined && seat && navigator.onLine) {
      const headers = { 'Content-Type': 'application/json', 'X-Participant-Token': seat };
      const body = JSON.stringify({ tab });
      fetch(base + path('/leave'), { method: 'POST', keepalive: true, headers, body }).catch(() => {});
    }
    joined = !!(asked = 0);
    stop.abort();
    release?.(0);
    release = undefined;
    channel.close();
    [ticking, retrying].forEach(clearTimeout);
  };
  const wake = () => (sync(), document.hidden || tick(true));
  const life = new AbortController();
  for (const [event, react] of Object.entries({
    storage: tell, online: wake, visibilitychange: wake, pagehide: vanish, freeze: vanish, resume: appear,
    pageshow: (/** @type {any} */ event) => event.persisted && appear(),
  })) addEventListener(event, /** @type {any} */ (react), { capture: true, signal: life.signal });

  const alone = !(await locks?.query())?.held?.some(lock => lock.name === `${name}:beat`);
  if (now() - at > 168 * HOUR) await settle(fail('too-old', 'This is over a week old, and is not sent.'));
  await appear();
  setTimeout(opened);

  /** What became of an item. @param {string} key @returns {Promise<any>} */
  const outcome = async key => {
    await sync();
    fresh.delete(key);
    const item = read().items.find(i => i.key === key);
    if (!item) throw failures.get(key) ?? fail('changed', 'It was discarded.');
    return item.state;
  };
  const close = () => (vanish({ type: 'close' }), life.abort());
  return {
    close,
    get state() { return view(); },
    on(event, listener) {
      const hear = (/** @type {any} */ event) => listener(event.detail) === false && event.preventDefault();
      target.addEventListener(event, hear);
      return () => target.removeEventListener(event, hear);
    },
    async attach(file) {
      if (early === false && !read().id) throw fail('early-off', 'Files can be attached after the first message.');
      const key = uuid(), { name, size } = file, type = file.type.split(';')[0] || 'application/octet-stream';
      const together = read().items.reduce((sum, i) => sum + (i.state === 'kept' && i.size || 0), size);
      const fits = storage === 'local' && size <= 25e6 && together <= 5e7;
      const state = fits && await inFiles(files => files.put(file, key)) ? 'kept' : 'not-kept';
      blobs.set(key, file);
      await update(s => s.items.push({ key, name, size, type, at: now(), state }));
      return outcome(key);
    },
    async send(text, { evenIfOld } = {}) {
      if (!text) throw fail('rejected', 'There is no text.');
      const at = now();
      let key = /** @type {string} */ (uuid());
      await update(s => {
        // pressed again before it was sent: the same message
        const same = s.items.find(i => i.text === text && !((i.sentAt ?? at) < at));
        if (same) {
          ({ key } = same);
          if (evenIfOld) Object.assign(same, { ok: true, state: 'queued' });
        } else {
          fresh.add(key);
          s.items = s.items.filter((i, n, all) => !i.sentAt || n > all.length - 20);
          s.items.push({ key, text, at, state: 'queued' });
        }
      });
      return outcome(key);
    },
    async stay() {
      await learn((await call('POST', path('/touch'), { seat: true })).data);
    },
    async end() {
      await call('POST', path('/end'));
      await drop();
    },
    forget: () => (close(), drop()),
    discardQueued: () => update(s => s.items = s.items.filter(i => i.sentAt || i.name)),
    participants: async () => (await call('GET', path('/participants'), { seat: true })).data,
    call: async (method, end, body) => (await call(method, path(end), { body })).data,
  };
}
