// The browser client of Entity Sync: keeps the rows of the keys that a page shows current,
// over one WebSocket, and connects again by itself when that is lost.
//
// This module has the functions that a page calls. The keys are in subscriptions.js, the
// WebSocket is in connection.js, and the wire is the v2 wire of docs/protocol.md.

import { connections } from "./connection.js";
import { loopOf } from "./loop.js";
import { SyncError } from "./protocol.js";
import { Subscriptions } from "./subscriptions.js";

/** @import { RowOf } from "./types.js" */

/**
 * The state of a connection, or of a key:
 *
 * - `connecting`: nothing is known yet, and is on its way.
 * - `live`: the rows shown are current, and changes arrive.
 * - `stale`: connected, but the rows shown may be out of date.
 * - `offline`: not connected, trying again. The rows shown are those known last.
 * - `denied`: refused, and nothing is shown. `error` says why.
 *
 * @typedef {"connecting" | "live" | "stale" | "offline" | "denied"} State
 */

/**
 * What is known of a key. It never changes: a change makes another object.
 *
 * @template [Row=any]
 * @typedef {object} Update
 * @property {string} entity
 * @property {string} id
 * @property {readonly Row[] | undefined} rows  all rows of the key; none if it was
 *   deleted, undefined while they are not known. They are shared: do not change them
 * @property {Row | undefined} row  the first of them
 * @property {string | undefined} version  names the content of the rows
 * @property {State} state
 * @property {SyncError | undefined} error  why the key is denied, or why it takes so long
 */

/**
 * @typedef {string | null | undefined} Secret
 */

/**
 * @typedef {object} Options
 * @property {Secret | (() => Secret | Promise<Secret>)} [secret]  says who the page is. A
 *   function is called at every connection, and when the secret is about to expire.
 *   Without a secret the node goes by the request's cookie, or accepts anybody
 * @property {(message: any) => void} [onMessage]  gets what the application's server
 *   sends besides rows: JSON as the value it is, any other text as a string
 * @property {(seconds: number) => void} [onExpiring]  is told that the secret expires, if
 *   `secret` is not a function, which would be called for another
 * @property {(error: unknown) => void} [onError]  gets errors that have no caller: an error
 *   that a callback threw, or a SyncError that is not about a key. Default: console.error
 * @property {AbortSignal} [signal]  closes the client
 * @property {number} [linger]  for how many milliseconds a key is kept after its last
 *   watcher has left, in case another one comes. Default: 1,000
 * @property {number} [timeout]  after how many milliseconds without an answer, of the
 *   node or of the secret function, the connection is given up. Default: 10,000
 * @property {{min?: number, max?: number}} [retry]  how many milliseconds to wait before
 *   connecting anew: up to min at first, doubled up to max, at random within that.
 *   Default: 500 and 30,000
 * @property {number} [maxMessageBytes]  the longest message that the node takes. Default: 32,768
 * @property {new (url: string, protocol: string) => any} [WebSocket]  for platforms without a global one
 */

export { SyncError };

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
  #connection;
  #subscriptions;
  #ended = new AbortController(); // aborted when the client is closed

  /** @param {string | URL} url @param {Options} options */
  constructor(url, options) {
    const { linger = 1_000, timeout = 10_000, maxMessageBytes = 32_768, retry: { min = 500, max = 30_000 } = {} } = options;
    const { signal } = this.#ended;
    const context = { ...options, linger, timeout, maxMessageBytes, min, max, signal, queue: [] };
    this.#subscriptions = new Subscriptions(url, context);
    this.#connection = this.#subscriptions.connection;
    connections.set(this, { connection: this.#connection, context });
    if (options.signal?.aborted) {
      this.close();
    } else {
      options.signal?.addEventListener("abort", () => this.close(), { signal });
      this.#connection.start();
    }
  }

  /** The connection's state. @returns {State} */
  get state() {
    return this.#connection.state;
  }

  /** Why the connection is denied. */
  get error() {
    return this.#connection.error;
  }

  /** Whether close was called. */
  get closed() {
    return this.#ended.signal.aborted;
  }

  /**
   * Calls back whenever the connection's state changes.
   *
   * @param {(state: State, error?: SyncError) => void} callback
   * @returns {() => void} ends that
   */
  onState(callback) {
    return this.#connection.onState(callback);
  }

  /**
   * Watches a key. The callback gets what is known of it as soon as anything is, and then
   * each change. All callers that watch the same key share one subscription.
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
    return this.#subscriptions.add(entity, id, signal, callback);
  }

  /**
   * What is known of a key that is being watched; undefined if it is not. The same
   * object until there is a change.
   *
   * @template [Row=never]
   * @template {string} [Entity=string]
   * @param {Entity} entity
   * @param {string | number} id
   * @returns {Update<RowOf<Entity, Row>> | undefined}
   */
  get(entity, id) {
    return this.#subscriptions.get(entity, id);
  }

  /**
   * What subscribe would begin with: what is known of a key that is being watched, or
   * otherwise an update that knows nothing.
   *
   * @template [Row=never]
   * @template {string} [Entity=string]
   * @param {Entity} entity
   * @param {string | number} id
   * @returns {Update<RowOf<Entity, Row>>}
   */
  peek(entity, id) {
    return this.#subscriptions.peek(entity, id);
  }

  /**
   * Watches a key in a for-await loop, which ends quietly when the signal aborts or
   * the client is closed. A slow loop skips updates that were replaced meanwhile.
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
    return loopOf((wake, ended) => this.#subscriptions.add(entity, id, signal, (update) => {
      next = update;
      wake();
    }, ended), () => {
      const update = next;
      next = undefined;
      return update;
    });
  }

  /**
   * Sends a message to the application's own handler: an object without an `action`. A
   * message that cannot be sent now is not kept.
   *
   * @param {Record<string, unknown>} message
   * @returns {boolean} whether it was sent
   */
  send(message) {
    const text = JSON.stringify(message);
    if (text?.[0] !== "{" || "action" in message) {
      throw new TypeError("a message of one's own is an object without an action");
    }
    return this.#connection.send(text);
  }

  /**
   * Sends a new secret, in the same connection if there is one: the given one, which counts
   * from now on, or what `secret` returns when it is called again. Keys that were denied are
   * asked for again, because the new secret may see them. For another person, rather than
   * a newer secret of the same one, close and connect.
   *
   * @param {Options["secret"]} [secret]
   * @returns {Promise<void>} settles when the node has answered
   */
  renew(secret) {
    return this.#connection.renew(secret);
  }

  /** Closes the connection and ends everything. No callback is called any more. */
  close() {
    if (!this.closed) {
      this.#ended.abort();
      this.#subscriptions.close();
      this.#connection.close();
    }
  }
}
