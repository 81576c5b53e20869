// Topics: events beside rows, over the same connection. A subscription hears the events of its
// topic and of the topics below it, each once, or is told that it has missed some.
//
// This module has the functions that a page calls. The subscriptions are in
// topicsubscriptions.js.

import { connections } from "./connection.js";
import { loopOf } from "./loop.js";
import { SyncError, bytesOf } from "./protocol.js";
import { TopicSubscriptions } from "./topicsubscriptions.js";

/** @import { State, Sync } from "./index.js" */

/**
 * A CloudEvent 1.0 in the JSON format.
 *
 * @template [Data=any]
 * @typedef {{specversion: string, id: string, source: string, type: string, time?: string, data?: Data, [member: string]: any}} CloudEvent
 */

/**
 * What a subscription hears: an event, or that events were missed in its place.
 *
 * @template [Data=any]
 * @typedef {object} Heard
 * @property {CloudEvent<Data> | undefined} event  undefined if events were missed
 * @property {string} topic  what the event was published to, or the subscription's topic
 * @property {readonly string[]} context  this client's topics that match, the most specific one first
 * @property {number | undefined} missed  how many events were missed: none with an event, undefined
 *   if the number is not known
 */

/**
 * @typedef {object} TopicOptions
 * @property {boolean} [exact]  hears the topic alone, without the topics below it
 * @property {string} [after]  the id of the last event that the page has, perhaps from an earlier visit:
 *   the node sends the later events first, as far as it keeps them. It counts for the topic's first
 *   subscription
 * @property {(state: State, error?: SyncError) => void} [onState]  is told of each state of the
 *   subscription, and why it is denied or takes so long
 * @property {AbortSignal} [signal]  ends the subscription
 */

/** The topics of one client: see topics. */
export class Topics {
  #connection;
  #context;
  #subscriptions;

  /** @param {Sync} sync */
  constructor(sync) {
    const { connection, context } = /** @type {{connection: import("./connection.js").Connection, context: import("./callbacks.js").Context}} */ (connections.get(sync));
    this.#connection = connection;
    this.#context = context;
    this.#subscriptions = new TopicSubscriptions(connection, context);
  }

  /**
   * Subscribes to a topic. The callback gets each event of the topic and of those below it, in
   * the order in which one node published them, and in place of events that were missed an
   * object without an event. After the connection was lost, the node sends what was missed as
   * far as it keeps it.
   *
   * @template [Data=any]
   * @param {string} topic
   * @param {(heard: Heard<Data>) => void} callback
   * @param {TopicOptions} [options]
   * @returns {() => void} ends that; nothing is called back afterwards
   */
  subscribe(topic, callback, options = {}) {
    return this.#subscriptions.add(topic, { ...options, callback });
  }

  /**
   * Subscribes to a topic in a for-await loop, which ends quietly when the signal aborts or the
   * client is closed. Of what waits for a slow loop the oldest beyond 1,024 is left out, and told
   * as missed.
   *
   * @template [Data=any]
   * @param {string} topic
   * @param {TopicOptions} [options]
   * @returns {AsyncGenerator<Heard<Data>, void, undefined>}
   */
  watch(topic, options = {}) {
    /** @type {Heard[]} */
    const waiting = [];
    /** @type {number | undefined} */
    let missed = 0; // of those that were left out; undefined if the number is not known
    const begin = (/** @type {() => void} */ wake, /** @type {() => void} */ ended) => this.#subscriptions.add(topic, { ...options, ended, callback: (heard) => {
      if (waiting.push(heard) > 1_024) {
        const oldest = /** @type {Heard} */ (waiting.shift());
        const n = oldest.event ? 1 : oldest.missed;
        missed = missed === undefined || n === undefined ? undefined : missed + n;
      }
      wake();
    } });
    return loopOf(begin, () => {
      if (missed === 0) {
        return waiting.shift();
      }
      const left = { event: undefined, topic, context: [topic], missed };
      missed = 0;
      return left;
    });
  }

  /**
   * Has the node make an event of data, and publish it.
   *
   * @param {string | string[]} topic  one, or up to 16
   * @param {unknown} data
   * @param {{echo?: boolean}} [options]  with echo false this connection does not hear the event
   * @returns {Promise<void>} settles when the bus has the event. After the error `unavailable`
   *   the event may have been published all the same, after `offline` it was not
   */
  publish(topic, data, { echo } = {}) {
    return this.#publish({ topic, data, echo });
  }

  /**
   * Publishes an event of the page's own, which is delivered as it is.
   *
   * @param {string | string[]} topic  one, or up to 16
   * @param {CloudEvent} event
   * @param {{echo?: boolean}} [options]  as of publish
   * @returns {Promise<void>} as of publish
   */
  publishEvent(topic, event, { echo } = {}) {
    return this.#publish({ topic, event, echo });
  }

  /** @param {object} body @returns {Promise<void>} */
  #publish(body) {
    /** @type {Promise<void>} */
    const published = new Promise((resolve, reject) => {
      const text = JSON.stringify(body);
      if (bytesOf(text) > this.#context.maxMessageBytes - 100) { // for the message around it
        reject(new SyncError("too_large", "the event is too large"));
      } else if (!["live", "stale"].includes(this.#connection.state)) {
        reject(new SyncError("offline", "not connected"));
      } else {
        this.#connection.request("publish", text, { answered: (error) => (error ? reject(error) : resolve()) });
      }
    });
    published.catch(() => {}); // a caller who does not wait for it need not catch it
    return published;
  }
}

/** @type {WeakMap<Sync, Topics>} */
const known = new WeakMap();

/**
 * The topics of a client. The same client has the same.
 *
 * @param {Sync} sync  what connect has returned
 * @returns {Topics}
 */
export function topics(sync) {
  const found = known.get(sync) ?? new Topics(sync);
  known.set(sync, found);
  return found;
}
