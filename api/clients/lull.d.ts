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
export type Sent = 'sent' | 'queued' | 'ask';
export type Attachment = 'uploaded' | 'kept' | 'not-kept';
export type Happening = 'state' | 'queue' | 'warning' | 'expired' | 'returned' | 'lost' | 'error';
export type Participant = {
    id: string;
    name: string | null;
    state: 'here' | 'away';
    joinedAt: string;
    you: boolean;
};
export type Item = {
    /**
     * Drawn once: every request for the item carries it.
     */
    key: string;
    /**
     * When it was added, by this clock.
     */
    at: number;
    state: Sent | Attachment;
    text?: string;
    /**
     * The user wants an old message to be sent.
     */
    ok?: boolean;
    sentAt?: number;
    name?: string;
    size?: number;
    type?: string;
    id?: string;
    url?: string;
    /**
     * When the upload's URL ends.
     */
    until?: number;
};
export type State = {
    /**
     * The session's.
     */
    id?: string;
    status?: string;
    /**
     * The session's token, of an owner without an account.
     */
    token?: string;
    /**
     * The participant's token.
     */
    seat?: string;
    anonymousId?: string;
    /**
     * The user's id.
     */
    subject?: string | null;
    /**
     * The key with which the session is created.
     */
    create?: {
        key: string;
        at: number;
        status: string;
    };
    archived?: boolean;
    items: Item[];
    /**
     * When the server last answered, by this clock.
     */
    at?: number;
    /**
     * The server's clock less this one, in milliseconds.
     */
    offset?: number;
};
export type View = {
    sessionId?: string;
    /**
     * none, draft, active, paused, or archived: the first message brings the draft back.
     */
    status: string;
    /**
     * Whether the session may begin before its first message; undefined: not known yet.
     */
    early?: boolean;
    /**
     * Whether a reload finds this state again.
     */
    kept: boolean;
    /**
     * Whether this page has joined.
     */
    present: boolean;
    expiresAt?: string;
    /**
     * When the next try is due, while the server cannot be reached.
     */
    retryAt?: number;
    messages: Item[];
    files: Item[];
};
export type LullError = {
    /**
     * sign-in, not-yours, wrong-status, expired, changed, rejected, waiting, early-off, removed,
     * full, lost, or too-old.
     */
    code: string;
    /**
     * A sentence for the user.
     */
    message: string;
    /**
     * Messages that are handed back: they will not be sent.
     */
    texts: string[];
    /**
     * Of the answer.
     */
    status?: number;
    /**
     * Of the problem.
     */
    type?: string;
    /**
     * The first one that the server refused.
     */
    field?: string;
    retryAt?: number;
};
export type Options = {
    /**
     * Where Lull answers; '' is this page's own origin.
     */
    api: string;
    /**
     * A name for this session in this browser: the same key finds the same session again.
     */
    key: string;
    /**
     * Default `chat`.
     */
    kind?: 'chat' | 'room';
    /**
     * More fields of the session that is created: title, metadata, table.
     */
    create?: object;
    /**
     * The user's name for the others in the session.
     */
    name?: string;
    /**
     * Join this session instead of creating one.
     */
    join?: {
        sessionId: string;
        invite?: string;
        name?: string;
    };
    /**
     * The user's access token; it is asked for anew at each request.
     */
    token?: () => Promise<string | null>;
    /**
     * Where state is kept. Default `local`.
     */
    storage?: 'local' | 'session' | 'memory';
    /**
     * Stores a message in the application, once for each key. A rejection with a `status` of
     * 4xx refuses the message; any other rejection is a reason to try again.
     */
    deliver: (message: {
        sessionId: string;
        text: string;
        idempotencyKey: string;
        signal: AbortSignal;
    }) => Promise<unknown>;
};
export type Lull = {
    /**
     * Returns what stops listening. A
     * caller that listens in the turn after `open` misses nothing.
     */
    on: (event: Happening, listener: (detail: any) => unknown) => () => void;
    state: View;
    attach: (file: File) => Promise<Attachment>;
    send: (text: string, options?: {
        evenIfOld?: true;
    }) => Promise<Sent>;
    /**
     * The user wants to stay: moves the session's clock.
     */
    stay: () => Promise<void>;
    /**
     * Ends the session; a draft is discarded.
     */
    end: () => Promise<void>;
    /**
     * Removes what this browser knows, and ends nothing.
     */
    forget: () => Promise<void>;
    discardQueued: () => Promise<unknown>;
    participants: () => Promise<Participant[]>;
    /**
     * Any other route of the session, with
     * the caller's credentials: `call('POST', '/invites', {maxUses: 1})`.
     */
    call: (method: string, end: string, body?: object) => Promise<any>;
    /**
     * Leaves, and stops; the state stays for the next `open`.
     */
    close: () => void;
};
/**
 * Open the session of this key: find it again, join it, or create it. Resolves after the first try, whether or not the
 * server could be reached: what failed is told by `error`, and tried again.
 * @param {Options} options @returns {Promise<Lull>}
 */
export declare function open(options: Options): Promise<Lull>;
