// The browser client of Entity Sync: keeps the rows of the keys that a page shows
// current, over one WebSocket, and comes back by itself when that is lost.
//
// It speaks the v2 wire of docs/protocol.md.

import { ABNORMAL_CLOSURE, TOO_MANY, SyncError, bytesOf, isKey, nameOf } from "./protocol.js";

/** @import { RowOf } from "./types.js" */

const PROTOCOL = "entity-sync.v2";

// Close codes after which the node would close the same client again: the client broke
// the protocol, or sent what the node does not take. Those from 4500 to 4599 are fatal, too.
const FATAL_CODES = [1002, 1003, 1007, 1009];

// All in ms.
const CHECK_EVERY = 5_000; // the connection, and whether the machine has slept
const PING_AFTER = 25_000; // without a message from the node
const STABLE_AFTER = 5_000; // from when on the loss of a connection is no failed attempt
const LONGEST_RETRY_HINT = 60_000; // of a node that says when to connect again
const LONGEST_TIMER = 2 ** 31 - 1; // a timer that is set for longer ends at once
const EVENTS = ["online", "offline", "pageshow", "pagehide", "visibilitychange"];

/**
 * What a connection, or a key, is like:
 *
 * - `connecting`: nothing is known yet, and is on its way.
 * - `live`: what is shown is current, and changes arrive.
 * - `stale`: connected, but what is shown may be out of date.
 * - `offline`: not connected, trying again. What is shown is what was known last.
 * - `denied`: refused, and nothing is shown. `error` says why.
 *
 * @typedef {"connecting" | "live" | "stale" | "offline" | "denied"} State
 */

/**
 * What is known of a key. It is never changed: news are another object.
 *
 * @template [Row=any]
 * @typedef {object} Update
 * @property {string} entity
 * @property {string} id
 * @property {readonly Row[] | undefined} rows  all rows of the key; none if it was
 *   deleted, undefined while they are not known. They are shared: do not change them
 * @property {Row | undefined} row  the first of them
 * @property {string | undefined} version  says which rows these are
 * @property {State} state
 * @property {SyncError | undefined} error  why it is denied, or why it takes so long
 */

/**
 * @typedef {string | null | undefined} Secret
 */

/**
 * @typedef {object} Options
 * @property {Secret | (() => Secret | Promise<Secret>)} [secret]  who the page is. A
 *   function is asked at every connection, and when the secret is about to expire.
 *   Without a secret the node goes by the request's cookie, or takes anybody
 * @property {(message: any) => void} [onMessage]  gets what the application's server
 *   sends besides rows: JSON as the value it is, any other text as a string
 * @property {(seconds: number) => void} [onExpiring]  is told that the secret expires,
 *   where `secret` is no function that could be asked for another
 * @property {(error: unknown) => void} [onError]  gets what no caller can be told: what
 *   a callback threw, or a SyncError that is about no key. Default: console.error
 * @property {AbortSignal} [signal]  closes the client
 * @property {number} [linger]  for how many milliseconds a key that nobody watches any
 *   more is kept, in case somebody comes back. Default: 1,000
 * @property {number} [timeout]  after how many milliseconds without an answer, of the
 *   node or of the secret function, the connection is given up. Default: 10,000
 * @property {{min?: number, max?: number}} [retry]  how many milliseconds to wait before
 *   connecting anew: up to min at first, doubled up to max, at random within that.
 *   Default: 500 and 30,000
 * @property {number} [maxMessageBytes]  what the node takes as one message. Default: 32,768
 * @property {new (url: string, protocol: string) => any} [WebSocket]  where there is no global one
 */

export { SyncError };

/** One who watches a key. */
class Listener {
  /** @type {Update | undefined} */
  seen = undefined;

  /** @param {(update: Update) => void} callback @param {() => void} [ended] */
  constructor(callback, ended) {
    this.callback = callback;
    this.ended = ended;
  }
}

/**
 * A call of renew, and what it is answered with.
 *
 * @typedef {{resolve: () => void, reject: (error: unknown) => void}} Renewal
 */

/** @type {any} */
const NOTHING = {}; // which any update differs from

/** What is known of one key, for all who watch it. */
class Entry {
  /** @type {Set<Listener>} */
  listeners = new Set();
  /** @type {readonly any[] | undefined} */
  rows = undefined;
  /** @type {string | undefined} */
  version = undefined;
  /** @type {SyncError | undefined} */
  error = undefined;
  denied = false;
  subscribed = false; // by what this connection was last asked for
  ref = 0; // of the subscription that is not acknowledged yet
  confirmed = false; // the rows are current, by what this connection has brought
  attempts = 0; // that were refused as unavailable
  due = Infinity; // when to look at the key, in ms: it lingers, or was unavailable
  early = Infinity; // from when on the key is looked at with others
  /** @type {string | undefined} */
  noPlace = undefined; // the message of a refusal as one key too many
  /** @type {Update} */
  update = NOTHING;

  /** @param {string} entity @param {string} id */
  constructor(entity, id) {
    this.entity = entity;
    this.id = id;
  }

  /** Forgets what the connection was asked for. */
  reset() {
    this.subscribed = this.confirmed = false;
    this.ref = 0;
  }

  /** Forgets the rows: nothing is shown. */
  clear() {
    this.rows = this.version = undefined;
  }
}

/** @param {number} code */
const isFatal = (code) => FATAL_CODES.includes(code) || (code >= 4500 && code < 4600);

/** @param {number} ms @param {() => void} callback */
const after = (ms, callback) => setTimeout(callback, Math.min(ms, LONGEST_TIMER));

/**
 * Connects to the node at url, and stays connected until it is closed.
 *
 * @param {string | URL} url  ws:, wss:, http: or https:, or relative to the page
 * @param {Options} [options]
 */
export function connect(url, options = {}) {
  return new Sync(url, options);
}

/** A connection to Entity Sync. */
export class Sync {
  #url;
  #WebSocket;
  #options;
  #secret;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Set<Entry>} */
  #dirty = new Set(); // whose subscription may not be what it should be
  /** @type {Set<(state: State, error?: SyncError) => void>} */
  #watchers = new Set();
  #unlisten = new AbortController();

  // Of the connection.
  /** @type {"connecting" | "live" | "offline" | "denied"} */
  #phase = "connecting";
  /** @type {State} */
  #announced = "connecting";
  #stale = false; // the node cannot vouch for what it has sent
  /** @type {SyncError | undefined} */
  #error;
  /** @type {any} */
  #socket;
  #ref = 0;
  #freePlaces = 0; // places at the node that came free, as far as we know
  /** @type {Map<number, {entries?: Entry[], secret?: boolean, first?: boolean, renewals?: Renewal[]}>} */
  #requests = new Map();
  #generation = 0; // of the call for the secret: an answer to an earlier call is dropped
  /** @type {Renewal[]} */
  #renewals = []; // whose secret is still to be sent
  /** @type {(() => unknown)[]} */
  #queue = []; // calls of the application

  // Time.
  #failures = 0;
  #liveSince = Infinity;
  #receivedAt = 0;
  #tickedAt = Date.now();
  #waiting = false; // for the time to connect again
  /** @type {any} */
  #retryTimer;
  /** @type {any} */
  #deadline; // for a message from the node
  /** @type {any} */
  #secretTimer; // for the answer of the secret function
  /** @type {any} */
  #timer; // for the key that is due next
  #timerAt = Infinity;
  /** @type {any} */
  #ticker;
  #closed = false;

  /** @param {string | URL} url @param {Options} options */
  constructor(url, options) {
    this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href.replace(/^http/, "ws");
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) {
      throw new TypeError("there is no WebSocket here: give one in the options");
    }
    const { linger = 1_000, timeout = 10_000, maxMessageBytes = 32_768, retry: { min = 500, max = 30_000 } = {} } = options;
    this.#options = { ...options, linger, timeout, maxMessageBytes, min, max };
    this.#secret = options.secret;
    if (options.signal?.aborted) {
      this.#closed = true;
      this.#phase = "offline";
      return;
    }
    options.signal?.addEventListener("abort", () => this.close(), { signal: this.#unlisten.signal });
    for (const type of EVENTS) {
      globalThis.addEventListener?.(type, (event) => this.#onPageEvent(event), { signal: this.#unlisten.signal });
    }
    this.#ticker = setInterval(() => this.#tick(), CHECK_EVERY);
    this.#open();
  }

  /** What the connection is like. @returns {State} */
  get state() {
    return this.#phase === "live" && this.#stale ? "stale" : this.#phase;
  }

  /** Why the connection is denied. */
  get error() {
    return this.#error;
  }

  /** Whether close was called. */
  get closed() {
    return this.#closed;
  }

  /**
   * Calls back whenever the connection's state changes.
   *
   * @param {(state: State, error?: SyncError) => void} callback
   * @returns {() => void} ends that
   */
  onState(callback) {
    /** @type {typeof callback} */
    const watcher = (state, error) => callback(state, error);
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /**
   * Watches a key. The callback gets what is known of it as soon as there is
   * something, and whatever is new from then on. Those who watch the same key
   * share one subscription.
   *
   * @template [Row=never]
   * @template {string} [Entity=string]
   * @param {Entity} entity
   * @param {string | number} id
   * @param {(update: Update<RowOf<Entity, Row>>) => void} callback
   * @param {{signal?: AbortSignal}} [options]
   * @returns {() => void} ends that; nothing is called back afterwards
   */
  subscribe(entity, id, callback, { signal } = {}) {
    return this.#add(entity, id, new Listener(callback), signal);
  }

  /**
   * What is known of a key that somebody watches; undefined if nobody does. The
   * same object until there are news.
   *
   * @template [Row=never]
   * @template {string} [Entity=string]
   * @param {Entity} entity
   * @param {string | number} id
   * @returns {Update<RowOf<Entity, Row>> | undefined}
   */
  get(entity, id) {
    return this.#entries.get(nameOf({ entity, id: String(id) }))?.update;
  }

  /**
   * What subscribe would begin with: what is known of a key if somebody watches it,
   * or else that nothing is.
   *
   * @template [Row=never]
   * @template {string} [Entity=string]
   * @param {Entity} entity
   * @param {string | number} id
   * @returns {Update<RowOf<Entity, Row>>}
   */
  peek(entity, id) {
    return this.get(entity, id) ?? this.#snapshot(new Entry(entity, String(id)));
  }

  /**
   * Watches a key in a for-await loop, which ends quietly when the signal aborts or
   * the client is closed. One who is slow skips what was replaced meanwhile.
   *
   * @template [Row=never]
   * @template {string} [Entity=string]
   * @param {Entity} entity
   * @param {string | number} id
   * @param {{signal?: AbortSignal}} [options]
   * @returns {AsyncGenerator<Update<RowOf<Entity, Row>>, void, undefined>}
   */
  watch(entity, id, { signal } = {}) {
    /** @type {Update | undefined} */
    let next;
    let over = false;
    let wake = () => {};
    const callback = (/** @type {Update} */ update) => {
      next = update;
      wake();
    };
    const ended = () => {
      over = true;
      wake();
    };
    const begin = () => this.#add(entity, id, new Listener(callback, ended), signal);
    const loop = (async function* () {
      const end = begin();
      try {
        while (!over) {
          if (next) {
            const update = next;
            next = undefined;
            yield update;
          } else {
            await new Promise((resolve) => (wake = () => resolve(undefined)));
          }
        }
      } finally {
        end();
      }
    })();
    // A generator that waits hears of neither: it is woken.
    for (const how of /** @type {const} */ (["return", "throw"])) {
      const finish = loop[how];
      loop[how] = (value) => {
        ended();
        return finish.call(loop, value);
      };
    }
    return loop;
  }

  /**
   * Sends a message to the application's own handler: an object without an
   * `action`. What cannot be sent now is not kept.
   *
   * @param {Record<string, unknown>} message
   * @returns {boolean} whether it was sent
   */
  send(message) {
    const text = JSON.stringify(message);
    if (text?.[0] !== "{" || "action" in message) {
      throw new TypeError("a message of one's own is an object without an action");
    }
    if (bytesOf(text) > this.#options.maxMessageBytes) {
      throw new RangeError("the message is too large");
    }
    if (this.#phase !== "live") {
      return false;
    }
    this.#socket.send(text);
    return true;
  }

  /**
   * Says who the page is anew, in the same connection if there is one: with the
   * secret given from now on, or what `secret` says when it is asked again. What may
   * now be seen that was denied is asked for again. For another person rather than
   * a newer secret of the same, close and connect.
   *
   * @param {Options["secret"]} [secret]
   * @returns {Promise<void>} settles when the node has answered
   */
  renew(secret = this.#secret) {
    this.#secret = secret;
    /** @type {Promise<void>} */
    const renewed = new Promise((resolve, reject) => this.#renewals.push({ resolve, reject }));
    renewed.catch(() => {}); // who does not wait for it need not catch it
    if (this.#closed) {
      this.#settle(this.#renewals, new SyncError("closed", "the client is closed"));
    } else if (this.#phase === "live") {
      this.#renew();
    } else {
      this.#drop();
      this.#error = undefined;
      this.#set(this.#phase === "denied" ? "connecting" : this.#phase);
      this.#open();
    }
    return renewed;
  }

  /** Ends everything. Nobody is called back any more. */
  close() {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    this.#unlisten.abort();
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    this.#drop(1000);
    this.#phase = "offline";
    this.#watchers.clear();
    for (const entry of this.#entries.values()) {
      const listeners = [...entry.listeners];
      entry.listeners.clear();
      listeners.forEach((listener) => listener.ended?.());
    }
    this.#entries.clear();
    this.#dirty.clear();
    this.#settle(this.#renewals, new SyncError("closed", "the client is closed"));
  }

  // Who watches what.

  /** @param {string} entity @param {string | number} id @param {Listener} listener @param {AbortSignal} [signal] */
  #add(entity, id, listener, signal) {
    const end = () => {
      signal?.removeEventListener("abort", end);
      if (entry.listeners.delete(listener)) {
        this.#abandoned(entry);
        listener.ended?.();
      }
    };
    const name = nameOf({ entity, id: String(id) });
    const entry = this.#entries.get(name) ?? new Entry(entity, String(id));
    if (this.#closed || signal?.aborted) {
      listener.ended?.();
      return end;
    }
    if (!this.#entries.has(name)) {
      this.#entries.set(name, entry);
      this.#emit(entry);
      this.#mark(entry);
    }
    if (entry.listeners.size === 0) {
      entry.due = entry.early = Infinity;
      if (!entry.subscribed && !entry.denied) {
        this.#mark(entry);
      }
    }
    entry.listeners.add(listener);
    signal?.addEventListener("abort", end, { signal: this.#unlisten.signal });
    if (entry.update.state !== "connecting") {
      this.#deliver(entry, listener);
    }
    return end;
  }

  /** @param {Entry} entry */
  #abandoned(entry) {
    if (entry.listeners.size === 0) {
      this.#later(entry, this.#options.linger, this.#options.linger);
    }
  }

  // Has a key be looked at. Those that are due at much the same time, by a tenth of
  // what they may wait at most, are looked at together.
  /** @param {Entry} entry @param {number} ms @param {number} most */
  #later(entry, ms, most) {
    entry.due = performance.now() + ms;
    entry.early = entry.due - most / 10;
    this.#schedule(entry.due);
  }

  /** @param {number} due */
  #schedule(due) {
    if (due < this.#timerAt) {
      this.#timerAt = due;
      clearTimeout(this.#timer);
      this.#timer = after(due - performance.now(), () => {
        const now = performance.now() + 1; // timers ring a little early
        let next = Infinity;
        this.#markAll((entry) => {
          if (entry.early <= now) {
            entry.due = entry.early = Infinity;
            return true;
          }
          next = Math.min(next, entry.due);
          return false;
        });
        this.#timerAt = Infinity;
        this.#schedule(next);
      });
    }
  }

  /** @param {Entry} entry @param {Listener} listener */
  #deliver(entry, listener) {
    const { update } = entry;
    this.#enqueue(() => {
      if (listener.seen !== update && entry.listeners.has(listener)) {
        listener.seen = update;
        this.#call(listener.callback, update);
      }
    });
  }

  // Calls the application when this turn's work is done, in the order in which it came
  // about: what a callback does finds nothing half done, and all hear the same.
  /** @param {() => unknown} run */
  #enqueue(run) {
    if (this.#queue.push(run) === 1) {
      queueMicrotask(() => {
        for (const next of this.#queue) {
          next();
        }
        this.#queue = [];
      });
    }
  }

  // What a callback throws, also later, is its own fault and nobody else's.
  /** @param {Function | undefined} callback @param {unknown[]} args */
  async #call(callback, ...args) {
    try {
      await callback?.(...args);
    } catch (error) {
      this.#report(error);
    }
  }

  /** @param {unknown} error */
  #report(error) {
    this.#enqueue(async () => {
      try {
        await (this.#options.onError ?? console.error)(error);
      } catch {
        // There is nobody left to tell.
      }
    });
  }

  /** @param {Entry} entry */
  #stateOf(entry) {
    if (entry.denied) {
      return "denied";
    }
    if (this.#phase !== "live") {
      return this.#phase;
    }
    if (!entry.confirmed) {
      return entry.rows ? "stale" : "connecting";
    }
    return this.state;
  }

  /** @param {Entry} entry @returns {Update} */
  #snapshot(entry) {
    const { entity, id, rows, version } = entry;
    return Object.freeze({ entity, id, rows, row: rows?.[0], version, state: this.#stateOf(entry), error: entry.error ?? this.#error });
  }

  // Tells those who watch a key, if there is anything new.
  /** @param {Entry} entry */
  #emit(entry) {
    const { update } = entry;
    const next = this.#snapshot(entry);
    if (update.state !== next.state || update.rows !== next.rows || update.version !== next.version || update.error?.code !== next.error?.code) {
      entry.update = next;
      for (const listener of entry.listeners) {
        this.#deliver(entry, listener);
      }
    }
  }

  /** @param {"connecting" | "live" | "offline" | "denied"} phase */
  #set(phase) {
    this.#phase = phase;
    for (const entry of [...this.#entries.values()]) {
      this.#emit(entry);
    }
    const { state, error } = this;
    if (this.#announced !== state) {
      this.#announced = state;
      for (const watcher of this.#watchers) {
        this.#enqueue(() => this.#watchers.has(watcher) && this.#call(watcher, state, error));
      }
    }
  }

  // Subscriptions. What changes in one go is said in one go.

  /** @param {Entry} entry */
  #mark(entry) {
    if (this.#dirty.size === 0) {
      queueMicrotask(() => this.#flush());
    }
    this.#dirty.add(entry);
  }

  /** @param {(entry: Entry) => boolean} which */
  #markAll(which) {
    for (const entry of this.#entries.values()) {
      if (which(entry)) {
        this.#mark(entry);
      }
    }
  }

  #flush() {
    /** @type {Set<Entry>} */
    const wanted = new Set();
    const unwanted = [];
    for (const entry of this.#dirty) {
      if (entry.listeners.size === 0) {
        this.#entries.delete(nameOf(entry));
        if (entry.subscribed) {
          unwanted.push(entry);
        }
      } else if (!isKey(entry)) {
        this.#refused(entry, "bad_key", "the key is malformed");
      } else if (!entry.subscribed) {
        wanted.add(entry);
      }
    }
    this.#dirty.clear();
    if (this.#socket?.readyState !== 1) {
      return; // when it is open, everything is looked at
    }
    this.#requestAll("unsubscribe", unwanted);
    this.#freePlaces = Math.max(0, this.#freePlaces + unwanted.length - wanted.size);
    for (const entry of this.#entries.values()) {
      if (this.#freePlaces > 0 && entry.noPlace && !entry.ref && entry.listeners.size > 0 && !wanted.has(entry)) {
        this.#freePlaces--;
        wanted.add(entry);
      }
    }
    this.#requestAll("subscribe", [...wanted]);
  }

  // Says something of many keys, in messages that the node takes.
  /** @param {"subscribe" | "unsubscribe"} action @param {Entry[]} entries */
  #requestAll(action, entries) {
    /** @type {Entry[]} */
    let some = [];
    let keys = "";
    let size = 0;
    const say = () => {
      if (some.length > 0) {
        this.#request(action, `[${keys}]`, { entries: some });
      }
    };
    for (const entry of entries) {
      const { entity, id, version } = entry;
      const subscribes = action === "subscribe";
      const key = JSON.stringify({ entity, id, version: subscribes ? version : undefined });
      const bytes = bytesOf(key) + 1;
      if (size + bytes > this.#options.maxMessageBytes - 100) { // 100 for what is around them
        say();
        some = [];
        keys = "";
        size = 0;
      }
      keys += (keys && ",") + key;
      size += bytes;
      some.push(entry);
      entry.subscribed = subscribes;
      entry.noPlace = undefined;
    }
    say();
  }

  /** @param {string} action @param {string} body @param {{entries?: Entry[], secret?: boolean, first?: boolean, renewals?: Renewal[]}} request */
  #request(action, body, request) {
    const ref = ++this.#ref;
    this.#requests.set(ref, request);
    if (request.secret || request.first) {
      request.renewals = this.#renewals.splice(0);
    }
    for (const entry of request.entries ?? []) {
      entry.ref = ref;
    }
    this.#socket?.send(`{"action":"${action}","ref":${ref},"body":${body}}`);
  }

  // The node, or we in its place, will not have a key.
  /** @param {Entry} entry @param {string} code @param {string} message */
  #refused(entry, code, message) {
    entry.reset();
    entry.error = new SyncError(code, message, entry);
    if (code === "unavailable") { // which passes
      const most = this.#backoff(entry.attempts++);
      this.#later(entry, Math.random() * most, most);
    } else {
      entry.denied = true;
      entry.clear();
    }
    this.#emit(entry);
  }

  // The connection.

  #open() {
    clearTimeout(this.#retryTimer);
    this.#waiting = false;
    this.#withSecret((secret) => this.#connect(secret), () => this.#lost(ABNORMAL_CLOSURE, ""));
  }

  // Gets the secret, and goes on with it unless it is asked for anew meanwhile.
  /** @param {(secret: Secret) => void} use @param {(error: unknown) => void} failed */
  async #withSecret(use, failed) {
    const generation = ++this.#generation;
    try {
      const secret = await this.#ask();
      if (generation === this.#generation) {
        use(secret);
      }
    } catch (error) {
      if (generation === this.#generation) {
        this.#report(error);
        failed(error);
      }
    }
  }

  // A function that never answers is one that fails.
  #ask() {
    clearTimeout(this.#secretTimer);
    if (typeof this.#secret !== "function") {
      return this.#secret;
    }
    const answer = this.#secret();
    /** @type {any} */
    let timer;
    const late = new Promise((_, reject) => {
      timer = this.#secretTimer = after(this.#options.timeout, () => reject(new SyncError("unavailable", "no secret in time")));
    });
    return Promise.race([answer, late]).finally(() => clearTimeout(timer));
  }

  /** @param {Secret} secret */
  #connect(secret) {
    const socket = new this.#WebSocket(this.#url, PROTOCOL);
    this.#socket = socket;
    this.#setDeadline(this.#options.timeout);
    socket.onopen = () => {
      if (secret != null) {
        this.#request("secret", JSON.stringify(secret), { secret: true, first: true });
      } else {
        this.#ping(true);
      }
      this.#markAll(() => true);
      this.#flush();
    };
    socket.onmessage = (/** @type {{data: string}} */ event) => this.#receive(event.data);
    socket.onclose = (/** @type {{code: number, reason: string}} */ event) => this.#lost(event.code, event.reason);
    socket.onerror = () => {}; // it is closed, too
    socket.onroom = (/** @type {number} */ places) => { // that another tab gave up
      this.#freePlaces += places;
      this.#flush();
    };
  }

  // Lets go of the connection, whatever it is like, without a word to anybody.
  /** @param {number} [code] */
  #drop(code) {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#secretTimer);
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
    this.#waiting = false;
    this.#generation++;
    const socket = this.#socket;
    if (socket) {
      this.#socket = socket.onopen = socket.onmessage = socket.onclose = undefined;
      socket.close(code);
    }
    this.#renewals.unshift(...[...this.#requests.values()].flatMap(({ renewals = [] }) => renewals)); // the next one says it anew
    this.#requests.clear();
    this.#freePlaces = 0;
    this.#stale = false;
    this.#entries.forEach((entry) => entry.reset());
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    this.#drop();
    if (isFatal(code)) {
      const name = code === 4503 ? "revoked" : code === 4501 ? "unauthenticated" : "closed";
      this.#deny(new SyncError(name, reason, { closeCode: code }));
      return;
    }
    if (performance.now() - this.#liveSince > STABLE_AFTER) {
      this.#failures = 0;
    }
    this.#liveSince = Infinity;
    const hint = /retry in (\d+) ms/.exec(reason);
    this.#retryLater(hint ? Math.min(+hint[1], LONGEST_RETRY_HINT) : undefined);
    this.#failures++;
    this.#set("offline");
  }

  /** @param {SyncError} error */
  #deny(error) {
    this.#drop();
    this.#error = error;
    this.#entries.forEach((entry) => entry.clear());
    this.#set("denied");
    this.#settle(this.#renewals, error);
  }

  /** @param {number} failures */
  #backoff(failures) {
    const { min, max } = this.#options;
    return Math.min(max, min * 2 ** failures, LONGEST_TIMER);
  }

  // Full jitter, so that those who were lost together do not come back together.
  /** @param {number} [ms] */
  #retryLater(ms = Math.random() * this.#backoff(this.#failures)) {
    clearTimeout(this.#retryTimer);
    this.#waiting = true;
    this.#retryTimer = after(ms, () => this.#open());
  }

  // A ping is a request that changes nothing: a page cannot send the ping of a WebSocket.
  #ping(first = false) {
    this.#request("unsubscribe", `{"entity":"","id":""}`, { first });
  }

  // Gives the connection up unless the node is heard in time.
  /** @param {number} ms */
  #setDeadline(ms) {
    this.#deadline ??= after(ms, () => this.#lost(ABNORMAL_CLOSURE, ""));
  }

  #clearDeadline() {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
  }

  // Asks whether the node is still there, when there is reason to doubt it; a
  // connection that leads nowhere looks like any other from here.
  /** @param {number} ms */
  #probe(ms) {
    if (this.#phase === "live" && !this.#deadline) {
      this.#ping();
      this.#setDeadline(ms);
    } else if (this.#waiting) { // and the reason to wait may be over
      this.#failures = 0;
      this.#retryLater();
    }
  }

  // How long something took goes by a clock that nobody sets. That one may stand still
  // while the machine sleeps, which the other one shows.
  #tick() {
    const now = Date.now();
    if (Math.abs(now - this.#tickedAt) > 3 * CHECK_EVERY) { // the machine has slept, or its clock was set
      this.#receivedAt = performance.now();
      this.#probe(this.#options.timeout / 2);
    } else if (this.#phase === "live" && performance.now() - this.#receivedAt > (globalThis.navigator?.onLine === false ? 0 : PING_AFTER)) {
      this.#probe(this.#options.timeout);
    }
    this.#tickedAt = now;
  }

  /** @param {any} event  one of EVENTS */
  #onPageEvent({ type, persisted }) {
    if (type === "pagehide") {
      if (persisted && this.#phase !== "denied") { // a page with a connection is not kept
        this.#lost(ABNORMAL_CLOSURE, "");
        clearTimeout(this.#retryTimer); // pageshow goes on
      }
    } else if (type !== "visibilitychange" || !globalThis.document?.hidden) {
      this.#probe(this.#options.timeout / 2);
    }
  }

  // What the node says.

  /** @param {string} text */
  #receive(text) {
    this.#receivedAt = performance.now();
    if (this.#phase === "live") { // until then nothing but the answer counts
      this.#clearDeadline();
    }
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      message = text;
    }
    const { action, ref, body } = message ?? {};
    const entry = body && this.#entries.get(nameOf(body));
    switch (action) {
      case "ack":
        this.#acknowledged(ref);
        break;
      case "error":
        this.#failed(ref, body);
        break;
      case "update":
      case "current":
      case "delete":
        // What comes before the answer is of an earlier subscription.
        if (entry?.subscribed && !entry.ref) {
          this.#news(entry, action, body);
        }
        break;
      case "unsubscribed":
        if (entry?.subscribed && !entry.ref) {
          this.#freePlaces++;
          this.#refused(entry, body.code, body.message);
          this.#flush();
        }
        break;
      case "stale":
      case "fresh":
        this.#stale = action === "stale";
        this.#set(this.#phase);
        break;
      case "expiring":
        if (typeof this.#secret === "function") {
          this.#renew();
        } else {
          this.#enqueue(() => this.#closed || this.#call(this.#options.onExpiring, body.seconds));
        }
        break;
      default:
        this.#enqueue(() => this.#closed || this.#call(this.#options.onMessage, message));
    }
  }

  /** @param {Entry} entry @param {string} action @param {{version?: string, rows?: any[]}} body */
  #news(entry, action, body) {
    if (action === "delete") {
      entry.rows = entry.rows?.length === 0 ? entry.rows : [];
      entry.version = undefined;
    } else if (action === "update" && (!body.version || entry.version !== body.version)) {
      entry.rows = body.rows ?? [];
      entry.version = body.version;
    }
    entry.confirmed = true;
    entry.denied = false;
    entry.error = undefined;
    entry.attempts = 0;
    this.#emit(entry);
  }

  /** @param {number} ref */
  #acknowledged(ref) {
    const request = this.#requests.get(ref);
    this.#requests.delete(ref);
    const { entries = [] } = request ?? {};
    for (const entry of entries) {
      if (entry.ref === ref) {
        entry.ref = 0;
      }
    }
    if (entries.length > 0) {
      this.#flush();
      for (const entry of entries) { // that found no place
        if (entry.noPlace && !entry.ref) {
          this.#refused(entry, TOO_MANY, entry.noPlace);
        }
      }
    }
    if (this.#requests.size === 0) {
      this.#freePlaces = 0; // a key that is refused from now on was asked for after that
    }
    if (request?.first) {
      this.#clearDeadline();
      this.#liveSince = performance.now();
      this.#set("live");
    }
    this.#settle(request?.renewals);
    if (request?.secret && !request.first) {
      this.#markAll((entry) => entry.denied && !entry.subscribed);
    }
  }

  /** @param {number} ref @param {{code: string, message: string, entity?: string, id?: string, index?: number}} body */
  #failed(ref, body) {
    const { code, message, entity, id, index } = body;
    const request = this.#requests.get(ref);
    const error = new SyncError(code, message, body);
    if (!request) {
      this.#report(error);
    } else if (request.entries) {
      const those = request.entries.filter((entry, i) => entry.ref === ref
        && (id === undefined ? index === undefined || i === index : entry.id === id && entry.entity === entity));
      if (those.length > 1) { // one of them, or all: one by one it is known which
        for (const entry of those) {
          entry.reset();
          if (entry.listeners.size > 0) {
            this.#requestAll("subscribe", [entry]);
          }
        }
      } else if (code === TOO_MANY && those.length > 0) { // what lingers goes first, before anything is shown
        those[0].subscribed = false;
        those[0].noPlace = message;
        this.#markAll((entry) => entry.listeners.size === 0);
      } else {
        this.#freePlaces += those.length; // a place that it did not take
        those.forEach((entry) => this.#refused(entry, code, message));
      }
    } else if (request.first) { // so there is no other secret to go on with
      if (code === "unavailable") {
        this.#lost(ABNORMAL_CLOSURE, "");
      } else {
        this.#deny(error); // rather than show what a stranger may see
      }
    } else if (request.secret) {
      this.#settle(request.renewals, error);
      this.#report(error);
    }
  }

  // The secret.

  // Says the secret anew in this connection; or connects anew where there is none
  // to say, because the request's cookie is what counts.
  #renew() {
    this.#withSecret((secret) => {
      if (secret == null) {
        this.#drop();
        this.#set("offline");
        this.#open();
      } else {
        this.#request("secret", JSON.stringify(secret), { secret: true });
      }
    }, (error) => this.#settle(this.#renewals, error));
  }

  /** @param {Renewal[]} [renewals] @param {unknown} [error] */
  #settle(renewals = [], error) {
    for (const { resolve, reject } of renewals.splice(0)) {
      if (error) {
        reject(error);
      } else {
        resolve();
      }
    }
  }
}
