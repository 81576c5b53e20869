// The subscriptions to topics of a client: the listeners of each topic, and what the node is
// asked for. connection.js sends it, and knows when there is a connection.

import { enqueue } from "./callbacks.js";
import { after } from "./connection.js";
import { SyncError, TOO_MANY, bytesOf } from "./protocol.js";

/** @import { Context } from "./callbacks.js" */
/** @import { Connection } from "./connection.js" */
/** @import { State } from "./index.js" */
/** @import { Request } from "./request.js" */
/** @import { CloudEvent, Heard, TopicOptions } from "./topics.js" */

/** @typedef {TopicOptions & {callback: (heard: Heard) => void, ended?: () => void, told?: string}} Listener */

const REMEMBERED = 1_024; // events of a topic, by which a double is known

/** A topic that is subscribed to. */
class Entry {
  /** @type {Set<Listener>} */
  listeners = new Set();
  /** @type {string | undefined} */
  last; // the id of the last event
  /** @type {Set<string>} */
  recent = new Set(); // names of the last events
  wasLive = false; // the node has granted it once
  denied = false;
  /** @type {SyncError | undefined} */
  error;
  retries = 0; // since it became unavailable
  /** @type {any} */
  timer; // to ask again

  // About the present connection.
  asked = false;
  askedExact = false; // without what is below
  confirmed = false;
  /** @type {Request | undefined} */
  request; // the last one about the topic, until the node has answered

  /** @param {string} topic */
  constructor(topic) {
    this.topic = topic;
  }

  get exact() {
    return [...this.listeners].every(({ exact }) => exact);
  }

  reset() {
    this.asked = this.askedExact = this.confirmed = false;
    this.request = undefined;
    clearTimeout(this.timer);
  }
}

/** @param {Entry} entry */
const isShort = ({ error }) => error?.code === TOO_MANY;

export class TopicSubscriptions {
  #connection;
  #context;
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Set<Entry>} */
  #dirty = new Set();

  /** @param {Connection} connection @param {Context} context */
  constructor(connection, context) {
    this.#connection = connection;
    this.#context = context;
    connection.extend({
      onopen: () => this.#markAll(() => true),
      onclose: () => this.#entries.forEach((entry) => entry.reset()),
      onState: () => this.#entries.forEach((entry) => this.#emit(entry)),
      onroom: () => this.#markAll(isShort),
      onack: (request) => this.#granted(request),
      onerror: (request, body) => this.#refused(request, body),
      onmessage: (action, body) => this.#heard(action, body),
    });
    context.signal.addEventListener("abort", () => this.#close());
  }

  // Listeners.

  /** @param {string} topic @param {Listener} listener @returns {() => void} */
  add(topic, listener) {
    const { signal } = listener;
    if (typeof listener.callback !== "function") {
      throw new TypeError("there is no callback");
    }
    const entry = this.#entries.get(topic) ?? new Entry(topic);
    const end = () => {
      signal?.removeEventListener("abort", end);
      if (entry.listeners.delete(listener)) {
        this.#mark(entry);
        listener.ended?.();
      }
    };
    if (this.#context.signal.aborted || signal?.aborted) {
      listener.ended?.();
      return end;
    }
    if (entry.last === undefined && listener.after !== undefined) {
      entry.last = listener.after;
    }
    this.#entries.set(topic, entry);
    entry.listeners.add(listener);
    signal?.addEventListener("abort", end, { signal: this.#context.signal });
    this.#mark(entry);
    this.#emit(entry);
    return end;
  }

  #close() {
    for (const entry of this.#entries.values()) {
      entry.reset();
      entry.listeners.forEach(({ ended }) => ended?.());
      entry.listeners.clear();
    }
    this.#entries.clear();
  }

  /** @param {Entry} entry @returns {State} */
  #stateOf(entry) {
    const { state } = this.#connection;
    if (entry.denied) {
      return "denied";
    }
    return entry.confirmed || !["live", "stale"].includes(state) ? state : "connecting";
  }

  /** @param {Entry} entry */
  #emit(entry) {
    const state = this.#stateOf(entry);
    const error = entry.error ?? this.#connection.error;
    const told = `${state} ${error?.code}`;
    for (const listener of entry.listeners) {
      if (listener.told !== told) {
        listener.told = told;
        enqueue(this.#context, () => entry.listeners.has(listener) && listener.onState?.(state, error));
      }
    }
  }

  /** @param {Entry} entry @param {Heard} heard @param {(listener: Listener) => boolean} [whom] */
  #deliver(entry, heard, whom = () => true) {
    for (const listener of entry.listeners) {
      if (whom(listener)) {
        enqueue(this.#context, () => entry.listeners.has(listener) && listener.callback(heard));
      }
    }
  }

  // Requests. All changes of one turn are requested together.

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
        entry.denied &&= !isShort(entry);
        this.#mark(entry);
      }
    }
  }

  #flush() {
    const wanted = [];
    const unwanted = [];
    for (const entry of this.#dirty) {
      if (this.#entries.get(entry.topic) !== entry) {
        continue;
      }
      if (entry.listeners.size === 0) {
        this.#entries.delete(entry.topic);
        if (entry.asked) {
          unwanted.push(entry);
        }
        entry.reset();
      } else if (!entry.denied && (!entry.asked || (entry.askedExact && !entry.exact))) {
        wanted.push(entry);
      }
    }
    this.#dirty.clear();
    if (this.#connection.open) { // otherwise onopen looks at every topic
      this.#requestAll("unsubscribe", unwanted);
      this.#requestAll("subscribe", wanted);
      if (unwanted.length > 0) {
        this.#markAll(isShort);
      }
    }
  }

  /** @param {"subscribe" | "unsubscribe"} action @param {Entry[]} all */
  #requestAll(action, all) {
    const requests = [];
    /** @type {any} */
    let request;
    let room = 0; // in the last request, in bytes
    for (const entry of all) {
      const { topic, last } = entry;
      const subscribes = action === "subscribe";
      const exact = subscribes && entry.exact;
      const resumes = subscribes && !entry.confirmed;
      const text = JSON.stringify({ topic, exact: exact || undefined, after: resumes ? last : undefined });
      const bytes = bytesOf(text) + 1;
      room -= bytes;
      if (room < 0) {
        request = { entries: [], topics: [], texts: [] };
        requests.push(request);
        room = this.#context.maxMessageBytes - 100 - bytes; // 100 for the message around the topics
      }
      request.texts.push(text);
      request.topics.push({ entry, missed: resumes && entry.wasLive && last === undefined });
      if (subscribes) {
        entry.asked = true;
        entry.askedExact = exact;
        entry.request = request;
      }
    }
    for (const each of requests) {
      this.#connection.request(action, `[${each.texts}]`, each);
    }
  }

  // Answers and messages of the node.

  /** @param {Request} request */
  #granted(request) {
    for (const { entry, missed } of request.topics ?? []) {
      if (entry.request !== request) {
        continue; // refused, or asked for again since
      }
      entry.request = entry.error = undefined;
      entry.confirmed = entry.wasLive = true;
      entry.retries = 0;
      this.#emit(entry);
      if (missed) {
        this.#miss(entry, undefined);
      }
    }
    if (request.renewals && !request.first) { // with another secret, more topics may be heard
      for (const entry of this.#entries.values()) {
        if (entry.denied) {
          entry.denied = false;
          this.#mark(entry);
        }
      }
    }
  }

  /** @param {Request} request @param {{code: string, message: string, topic?: string, index?: number}} body */
  #refused(request, { code, message, topic, index }) {
    (request.topics ?? []).forEach(({ entry }, i) => {
      const isMeant = topic === undefined ? index === undefined || i === index : entry.topic === topic;
      if (isMeant && entry.request === request) {
        this.#deny(entry, code, message);
      }
    });
  }

  /** @param {Entry} entry @param {string} code @param {string} message */
  #deny(entry, code, message) {
    entry.reset();
    entry.error = new SyncError(code, message, { topic: entry.topic });
    entry.denied = code !== "unavailable"; // such a refusal passes
    if (!entry.denied) {
      entry.timer = after(Math.random() * this.#connection.backoff(entry.retries++), () => this.#mark(entry));
    }
    this.#emit(entry);
  }

  /** @param {string} action @param {any} body */
  #heard(action, body) {
    if (action === "event") {
      for (const topic of body.context) {
        const entry = this.#entries.get(topic);
        if (entry?.confirmed) {
          this.#hear(entry, body);
        }
      }
      return;
    }
    const entry = this.#entries.get(body?.topic);
    if (!entry?.confirmed || !["gap", "unsubscribed"].includes(action)) {
      return;
    }
    if (action === "gap") {
      this.#miss(entry, body.missed);
    } else {
      this.#deny(entry, body.code, body.message);
    }
  }

  /** @param {Entry} entry @param {{event: CloudEvent, topic: string, context: string[]}} body */
  #hear(entry, { event, topic, context }) {
    const name = JSON.stringify([event.source, event.id]); // the source alone decides what its ids mean
    if (entry.recent.has(name)) {
      return;
    }
    entry.last = event.id;
    entry.recent.add(name);
    if (entry.recent.size > REMEMBERED) {
      entry.recent.delete(/** @type {string} */ (entry.recent.values().next().value));
    }
    const heard = Object.freeze({ event, topic, context, missed: 0 });
    // Of an event of several topics the message has one, which need not be the exact one.
    const isBelow = entry.topic === "*" || topic.startsWith(`${entry.topic}.`);
    const isExact = topic === entry.topic || (entry.askedExact && !isBelow);
    this.#deliver(entry, heard, ({ exact }) => !exact || isExact);
  }

  /** @param {Entry} entry @param {number | undefined} missed */
  #miss(entry, missed) {
    this.#deliver(entry, Object.freeze({ event: undefined, topic: entry.topic, context: [entry.topic], missed }));
  }
}
