// The subscriptions of a client: the listeners of each key, what is known of each key, and
// what the node is asked for. connection.js sends it, and knows when there is a connection.

import { enqueue } from "./callbacks.js";
import { Connection, after } from "./connection.js";
import { TOO_MANY, SyncError, bytesOf, isKey, nameOf } from "./protocol.js";

/** @import { Context } from "./callbacks.js" */
/** @import { Request } from "./request.js" */
/** @import { State, Update } from "./index.js" */

/**
 * A caller that watches a key.
 *
 * @typedef {{callback: (update: Update) => void, ended?: () => void, seen?: Update}} Listener
 */

/** What is known of one key, for all its listeners. */
class Entry {
  /** @type {Set<Listener>} */
  listeners = new Set();
  /** @type {readonly any[] | undefined} */
  rows;
  /** @type {string | undefined} */
  version;
  /** @type {SyncError | undefined} */
  error;
  denied = false;
  subscribed = false; // as of the last request in this connection
  /** @type {Request | undefined} */
  request; // the last one about the key, until the node has answered
  current = false; // this connection has confirmed the rows
  retries = 0; // since the key became unavailable
  due = Infinity; // when to look at the key, which lingers or was unavailable, in ms
  early = Infinity; // the earliest time to look at the key, together with others
  /** @type {string | undefined} */
  noPlace; // the message of a refusal as one key too many
  /** @type {any} */
  update; // the Update that was emitted last

  /** @param {string} entity @param {string} id */
  constructor(entity, id) {
    this.entity = entity;
    this.id = id;
  }

  /** Forgets what the connection was asked for. */
  reset() {
    this.subscribed = this.current = false;
    this.request = undefined;
  }

  /** Forgets the rows, so that nothing is shown. */
  clear() {
    this.rows = this.version = undefined;
  }
}

export class Subscriptions {
  #context;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Set<Entry>} */
  #dirty = new Set(); // keys whose subscription may have to change
  #freePlaces = 0; // places at the node that came free, as far as is known
  /** @type {any} */
  #timer; // for the key that is due next
  #timerAt = Infinity;

  /** @param {string | URL} url @param {Context} context */
  constructor(url, context) {
    this.#context = context;
    this.connection = new Connection(url, context, this);
  }

  // Listeners.

  /** @param {string} entity @param {string | number} id @returns {Update | undefined} */
  get(entity, id) {
    return this.#entries.get(nameOf({ entity, id: String(id) }))?.update;
  }

  /** @param {string} entity @param {string | number} id */
  peek(entity, id) {
    return this.get(entity, id) ?? this.#snapshot(new Entry(entity, String(id)));
  }

  /**
   * @param {string} entity
   * @param {string | number} id
   * @param {AbortSignal | undefined} signal
   * @param {(update: Update) => void} callback
   * @param {() => void} [ended]  is called as soon as no further update will come
   * @returns {() => void} ends the calls
   */
  add(entity, id, signal, callback, ended) {
    /** @type {Listener} */
    const listener = { callback, ended };
    const end = () => {
      signal?.removeEventListener("abort", end);
      if (entry.listeners.delete(listener)) {
        if (entry.listeners.size === 0) {
          this.#lookLater(entry, this.#context.linger);
        }
        ended?.();
      }
    };
    const unknown = new Entry(entity, String(id));
    const entry = this.#entries.get(nameOf(unknown)) ?? unknown;
    if (this.#context.signal.aborted || signal?.aborted) {
      ended?.();
      return end;
    }
    if (entry === unknown) {
      this.#entries.set(nameOf(entry), entry);
      this.#emit(entry);
    }
    if (entry.listeners.size === 0) {
      entry.due = entry.early = Infinity;
      if (!entry.subscribed && (!entry.denied || entry.noPlace)) { // while it lingered, a free place was not given to it
        this.#mark(entry);
      }
    }
    entry.listeners.add(listener);
    signal?.addEventListener("abort", end, { signal: this.#context.signal });
    if (entry.update.state !== "connecting") {
      this.#deliver(entry, listener);
    }
    return end;
  }

  close() {
    clearTimeout(this.#timer);
    for (const { listeners } of this.#entries.values()) {
      listeners.forEach(({ ended }) => ended?.());
      listeners.clear();
    }
    this.#entries.clear();
    this.#dirty.clear();
  }

  // Looks at a key in some ms. Keys that are due at nearly the same time, within a tenth of
  // the longest wait, are looked at together.
  /** @param {Entry} entry @param {number} most @param {number} [ms] */
  #lookLater(entry, most, ms = most) {
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
        const now = performance.now() + 1; // timers fire a little early
        let next = Infinity;
        for (const entry of this.#entries.values()) {
          if (entry.early <= now) {
            entry.due = entry.early = Infinity;
            this.#mark(entry);
          } else {
            next = Math.min(next, entry.due);
          }
        }
        this.#timerAt = Infinity;
        this.#schedule(next);
      });
    }
  }

  // Telling listeners.

  /** @param {Entry} entry @param {Listener} listener */
  #deliver(entry, listener) {
    const { update } = entry;
    const { callback } = listener;
    enqueue(this.#context, () => {
      if (listener.seen !== update && entry.listeners.has(listener)) {
        listener.seen = update;
        return callback(update);
      }
    });
  }

  /** @param {Entry} entry @returns {State} */
  #stateOf(entry) {
    const { state } = this.connection;
    if (entry.denied) {
      return "denied";
    }
    if (entry.current || !["live", "stale"].includes(state)) {
      return state;
    }
    return entry.rows ? "stale" : "connecting";
  }

  /** @param {Entry} entry @returns {Update} */
  #snapshot(entry) {
    const { entity, id, rows, version } = entry;
    return Object.freeze({ entity, id, rows, row: rows?.[0], version, state: this.#stateOf(entry), error: entry.error ?? this.connection.error });
  }

  // Tells the listeners of a key, if anything is new.
  /** @param {Entry} entry */
  #emit(entry) {
    const { update } = entry;
    const next = this.#snapshot(entry);
    if (update?.state !== next.state || update.rows !== next.rows || update.version !== next.version || update.error?.code !== next.error?.code) {
      entry.update = next;
      for (const listener of entry.listeners) {
        this.#deliver(entry, listener);
      }
    }
  }

  // Requests to the node. All changes of one turn are requested together.

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
    if (!this.connection.open) {
      return; // onopen looks at every key
    }
    this.#requestAll("unsubscribe", unwanted);
    this.#freePlaces = Math.max(0, this.#freePlaces + unwanted.length - wanted.size);
    for (const entry of this.#entries.values()) {
      if (this.#freePlaces > 0 && entry.noPlace && !entry.request && entry.listeners.size > 0 && !wanted.has(entry)) {
        this.#freePlaces--;
        wanted.add(entry);
      }
    }
    this.#requestAll("subscribe", [...wanted]);
  }

  // Subscribes to or unsubscribes from many keys, in messages of a size that the node takes.
  /** @param {"subscribe" | "unsubscribe"} action @param {Entry[]} all */
  #requestAll(action, all) {
    const requests = [];
    /** @type {any} */
    let request;
    let room = 0; // in the last request, in bytes
    for (const entry of all) {
      const { entity, id, version } = entry;
      entry.subscribed = action === "subscribe";
      entry.noPlace = undefined;
      const key = JSON.stringify({ entity, id, version: entry.subscribed ? version : undefined });
      const bytes = bytesOf(key) + 1;
      room -= bytes;
      if (room < 0) {
        request = { entries: [], keys: [] };
        requests.push(request);
        room = this.#context.maxMessageBytes - 100 - bytes; // 100 for the message around the keys
      }
      request.entries.push(entry);
      request.keys.push(key);
      entry.request = request;
    }
    for (const each of requests) {
      this.connection.request(action, `[${each.keys}]`, each);
    }
  }

  // The functions that the connection calls: see Handlers.

  onState() {
    for (const entry of this.#entries.values()) {
      if (this.connection.state === "denied") {
        entry.clear();
      }
      this.#emit(entry);
    }
  }

  onopen() {
    this.#markAll(() => true);
    this.#flush();
  }

  onclose() {
    this.#freePlaces = 0;
    this.#entries.forEach((entry) => entry.reset());
  }

  /** @param {number} places */
  onroom(places) {
    this.#freePlaces += places;
    this.#flush();
  }

  /** @param {string} action @param {any} body */
  onmessage(action, body) {
    const entry = body && this.#entries.get(nameOf(body));
    if (!entry?.subscribed || entry.request) {
      return; // before the answer, messages are about an earlier subscription
    }
    if (action === "unsubscribed") {
      this.#freePlaces++;
      this.#refused(entry, body.code, body.message);
      this.#flush();
      return;
    }
    if (action === "delete") {
      entry.rows = entry.rows?.length === 0 ? entry.rows : [];
      entry.version = undefined;
    } else if (action === "update" && (!body.version || entry.version !== body.version)) {
      entry.rows = body.rows ?? [];
      entry.version = body.version;
    }
    entry.current = true;
    entry.denied = false;
    entry.error = undefined;
    entry.retries = 0;
    this.#emit(entry);
  }

  /** @param {Request} request */
  onack(request) {
    const { entries = [] } = request;
    for (const entry of entries) {
      if (entry.request === request) {
        entry.request = undefined;
      }
    }
    if (entries.length > 0) {
      this.#flush();
      for (const entry of entries) { // refuse those that found no place
        if (entry.noPlace && !entry.request) {
          this.#refused(entry, TOO_MANY, entry.noPlace);
        }
      }
    }
    if (this.connection.requests.size === 0) {
      this.#freePlaces = 0; // all later refusals answer requests made after the places came free
    }
    if (request.renewals && !request.first) { // with another secret, more keys may be seen
      this.#markAll((entry) => entry.denied && !entry.subscribed);
    }
  }

  /**
   * @param {Request} request
   * @param {{code: string, message: string, entity?: string, id?: string, index?: number}} body
   */
  onerror(request, { code, message, entity, id, index }) {
    const { entries = [] } = request;
    const those = entries.filter((entry, i) => entry.request === request
      && (id === undefined ? index === undefined || i === index : entry.id === id && entry.entity === entity));
    if (those.length > 1) { // the refusal may be about one of them: requests of one key each tell which
      for (const entry of those) {
        entry.reset();
        if (entry.listeners.size > 0) {
          this.#requestAll("subscribe", [entry]);
        }
      }
    } else if (code === TOO_MANY && those.length > 0) { // keys that linger are given up first, before any error is shown
      those[0].subscribed = false;
      those[0].noPlace = message;
      this.#markAll((entry) => entry.listeners.size === 0);
    } else {
      this.#freePlaces += those.length; // the refused key has not taken its place
      those.forEach((entry) => this.#refused(entry, code, message));
    }
  }

  // Refuses a key, because the node does or would.
  /** @param {Entry} entry @param {string} code @param {string} message */
  #refused(entry, code, message) {
    entry.reset();
    entry.error = new SyncError(code, message, entry);
    if (code === "unavailable") { // such a refusal passes
      const most = this.connection.backoff(entry.retries++);
      this.#lookLater(entry, most, Math.random() * most);
    } else {
      entry.denied = true;
      entry.clear();
    }
    this.#emit(entry);
  }
}
