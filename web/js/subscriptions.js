// The subscriptions of a client: who watches which key, what is known of each key, and what
// the node is asked for. How that is sent, and when a connection is there, is for connection.js.

import { enqueue } from "./callbacks.js";
import { Connection, after } from "./connection.js";
import { TOO_MANY, SyncError, bytesOf, isKey, nameOf } from "./protocol.js";

/** @import { Context } from "./callbacks.js" */
/** @import { Request } from "./connection.js" */
/** @import { State, Update } from "./index.js" */

/**
 * One who watches a key.
 *
 * @typedef {{callback: (update: Update) => void, ended?: () => void, seen?: Update}} Listener
 */

/** What is known of one key, for all who watch it. */
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
  subscribed = false; // by what this connection was last asked for
  /** @type {Request | undefined} */
  request; // the last one about the key, until the node has answered
  current = false; // the rows are, by what this connection has brought
  retries = 0; // since the key became unavailable
  due = Infinity; // when to look at the key, which lingers or was unavailable, in ms
  early = Infinity; // from when on the key is looked at together with others
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

  /** Forgets the rows: nothing is shown. */
  clear() {
    this.rows = this.version = undefined;
  }
}

export class Subscriptions {
  #context;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Set<Entry>} */
  #dirty = new Set(); // keys whose subscription may not be what it should be
  #freePlaces = 0; // places at the node that came free, as far as we know
  /** @type {any} */
  #timer; // for the key that is due next
  #timerAt = Infinity;

  /** @param {string | URL} url @param {Context} context */
  constructor(url, context) {
    this.#context = context;
    this.connection = new Connection(url, context, this);
  }

  // Who watches what.

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
   * @param {() => void} [ended]  is called at once when no update is to come any more
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
      if (!entry.subscribed && (!entry.denied || entry.noPlace)) { // a place that came free while it lingered went past it
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

  // Has a key be looked at in some ms. Keys that are due at much the same time, by a tenth of
  // what they may wait at most, are looked at together.
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

  // What those who watch are told.

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

  // Tells those who watch a key, if there is anything new.
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

  // What the node is asked for. What changes in one go is requested in one go.

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

  // Requests something for many keys, in messages that the node takes.
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
        room = this.#context.maxMessageBytes - 100 - bytes; // 100 for what is around the keys
      }
      request.entries.push(entry);
      request.keys.push(key);
      entry.request = request;
    }
    for (const each of requests) {
      this.connection.request(action, `[${each.keys}]`, each);
    }
  }

  // What the connection calls: see Handlers.

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
      return; // what comes before the answer is of an earlier subscription
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
      for (const entry of entries) { // that found no place
        if (entry.noPlace && !entry.request) {
          this.#refused(entry, TOO_MANY, entry.noPlace);
        }
      }
    }
    if (this.connection.requests.size === 0) {
      this.#freePlaces = 0; // a key that is refused from now on was asked for after that
    }
    if (request.renewals && !request.first) { // another secret, which may let more be seen
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
    if (those.length > 1) { // one of them, or all: the answers to requests of one key each say which
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
  }

  // The node refuses a key, or the client does in its place.
  /** @param {Entry} entry @param {string} code @param {string} message */
  #refused(entry, code, message) {
    entry.reset();
    entry.error = new SyncError(code, message, entry);
    if (code === "unavailable") { // which passes
      const most = this.connection.backoff(entry.retries++);
      this.#lookLater(entry, most, Math.random() * most);
    } else {
      entry.denied = true;
      entry.clear();
    }
    this.#emit(entry);
  }
}
