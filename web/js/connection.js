// The connection to the node: opens a WebSocket with the page's secret, sends requests and
// takes their answers, notices when the WebSocket is lost, and opens another one. Messages
// about keys go to the handlers.

import { enqueue, report } from "./callbacks.js";
import { ABNORMAL_CLOSURE, FATAL_CODES, PROTOCOL, SyncError, bytesOf } from "./protocol.js";
import { settle } from "./request.js";

/** @import { Context } from "./callbacks.js" */
/** @import { Options, Secret, State } from "./index.js" */
/** @import { Handlers, Renewal, Request } from "./request.js" */

/** The connection of each client, for modules that do more with it. @type {WeakMap<object, {connection: Connection, context: Context}>} */
export const connections = new WeakMap();

// All in ms.
const CHECK_EVERY = 5_000; // how often to check the connection, and whether the machine has slept
const PING_AFTER = 25_000; // without a message from the node
const STABLE_AFTER = 5_000; // a connection that is lost after that is no failed attempt
const LONGEST_RETRY_HINT = 60_000; // of a node that says when to connect again
const LONGEST_TIMER = 2 ** 31 - 1; // a timer that is set for longer fires at once

/** @param {number} ms @param {() => void} callback */
export const after = (ms, callback) => setTimeout(callback, Math.min(ms, LONGEST_TIMER));

export class Connection {
  /** @type {SyncError | undefined} */
  error; // why the connection is denied
  /** @type {Map<number, Request>} */
  requests = new Map(); // those that the node has not answered yet

  #url;
  #WebSocket;
  #context;
  #secret;
  /** @type {Partial<Handlers>[]} */
  #handlers;
  /** @type {"connecting" | "live" | "offline" | "denied"} */
  #phase = "connecting";
  /** @type {Set<(state: State, error?: SyncError) => void>} */
  #watchers = new Set();
  /** @type {State} */
  #announced = "connecting";
  #stale = false; // the node cannot vouch for what it has sent

  // What was sent, and is to be sent.
  /** @type {any} */
  #socket;
  #ref = 0;
  #generation = 0; // of the call of the secret function: an answer to an earlier call is dropped
  /** @type {Renewal[]} */
  #renewals = []; // calls of renew whose secret is still to be sent

  // Time.
  #failures = 0;
  #liveSince = Infinity;
  #receivedAt = 0;
  #checkedAt = Date.now();
  /** @type {any} */
  #retryTimer; // for the next attempt; undefined if none is due
  /** @type {any} */
  #deadline; // for the next message from the node
  /** @type {any} */
  #secretTimer; // for the answer of the secret function
  /** @type {any} */
  #ticker;

  /** @param {string | URL} url @param {Context} context @param {Handlers} handlers */
  constructor(url, context, handlers) {
    this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href.replace(/^http/, "ws");
    this.#WebSocket = context.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) {
      throw new TypeError("there is no WebSocket here: give one in the options");
    }
    this.#context = context;
    this.#secret = context.secret;
    this.#handlers = [handlers];
  }

  /** Has further handlers called, after those that there are. @param {Partial<Handlers>} handlers */
  extend(handlers) {
    this.#handlers.push(handlers);
  }

  /** @param {(handlers: any) => void} call */
  #each(call) {
    this.#handlers.forEach(call);
  }

  start() {
    for (const type of ["online", "offline", "pageshow", "pagehide", "visibilitychange"]) {
      globalThis.addEventListener?.(type, (event) => this.#onPageEvent(event), { signal: this.#context.signal });
    }
    this.#ticker = setInterval(() => this.#check(), CHECK_EVERY);
    this.#open();
  }

  close() {
    clearInterval(this.#ticker);
    this.#drop(1000);
    this.#phase = "offline";
    settle(this.#renewals, new SyncError("closed", "the client is closed"));
  }

  /** @returns {State} */
  get state() {
    return this.#phase === "live" && this.#stale ? "stale" : this.#phase;
  }

  /** Whether requests can be sent. */
  get open() {
    return this.#socket?.readyState === 1;
  }

  /** @param {(state: State, error?: SyncError) => void} callback */
  onState(callback) {
    /** @type {typeof callback} */
    const watcher = (state, error) => callback(state, error);
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** @param {"connecting" | "live" | "offline" | "denied"} phase */
  #set(phase) {
    this.#phase = phase;
    this.#each((each) => each.onState?.());
    const { state, error } = this;
    if (this.#announced !== state) {
      this.#announced = state;
      for (const watcher of this.#watchers) {
        enqueue(this.#context, () => this.#watchers.has(watcher) && watcher(state, error));
      }
    }
  }

  // Sending.

  /** Sends a message of the application, unless it cannot be sent now. @param {string} text */
  send(text) {
    if (bytesOf(text) > this.#context.maxMessageBytes) {
      throw new RangeError("the message is too large");
    }
    const live = this.#phase === "live";
    if (live) {
      this.#socket.send(text);
    }
    return live;
  }

  /** @param {string} action @param {string} body  in JSON @param {Request} request */
  request(action, body, request) {
    const ref = ++this.#ref;
    this.requests.set(ref, request);
    this.#socket?.send(`{"action":"${action}","ref":${ref},"body":${body}}`);
  }

  // A ping is a request that changes nothing, because a page cannot send a WebSocket's ping.
  #ping(request = {}) {
    this.request("unsubscribe", `{"entity":"","id":""}`, request);
  }

  // The secret.

  /** @param {Options["secret"]} [secret] @returns {Promise<void>} */
  renew(secret = this.#secret) {
    this.#secret = secret;
    /** @type {Promise<void>} */
    const renewed = new Promise((resolve, reject) => this.#renewals.push((error) => (error ? reject(error) : resolve())));
    renewed.catch(() => {}); // a caller who does not wait for it need not catch it
    if (this.#context.signal.aborted) {
      this.close();
    } else if (this.#phase === "live") {
      this.#sendSecret();
    } else {
      this.#drop();
      this.error = undefined;
      this.#set(this.#phase === "denied" ? "connecting" : this.#phase);
      this.#open();
    }
    return renewed;
  }

  // Sends the secret anew in this connection. If the client sends none, because the request's
  // cookie is what counts, it connects anew.
  #sendSecret() {
    this.#withSecret((secret) => {
      if (secret == null) {
        this.#drop();
        this.#set("offline");
        this.#open();
      } else {
        this.request("secret", JSON.stringify(secret), { renewals: this.#renewals.splice(0) });
      }
    }, (error) => settle(this.#renewals, error));
  }

  // Gets the secret and uses it, unless the secret is asked for again meanwhile.
  /** @param {(secret: Secret) => void} use @param {(error: unknown) => void} failed */
  async #withSecret(use, failed) {
    const generation = ++this.#generation;
    clearTimeout(this.#secretTimer);
    try {
      const secret = await this.#askSecret();
      if (generation === this.#generation) {
        clearTimeout(this.#secretTimer);
        use(secret);
      }
    } catch (error) {
      if (generation === this.#generation) {
        clearTimeout(this.#secretTimer);
        report(this.#context, error);
        failed(error);
      }
    }
  }

  // A function that does not answer in time fails.
  #askSecret() {
    if (typeof this.#secret !== "function") {
      return this.#secret;
    }
    const answer = this.#secret();
    const late = new Promise((_, reject) => {
      this.#secretTimer = after(this.#context.timeout, () => reject(new SyncError("unavailable", "no secret in time")));
    });
    return Promise.race([answer, late]);
  }

  // From one connection to the next.

  #open() {
    this.#retryTimer = undefined;
    this.#withSecret((secret) => this.#connect(secret), () => this.#lost());
  }

  /** @param {Secret} secret */
  #connect(secret) {
    const socket = this.#socket = new this.#WebSocket(this.#url, PROTOCOL);
    this.#setDeadline(this.#context.timeout);
    socket.onopen = () => {
      const request = { first: true, renewals: this.#renewals.splice(0) };
      if (secret != null) {
        this.request("secret", JSON.stringify(secret), request);
      } else {
        this.#ping(request);
      }
      this.#each((each) => each.onopen?.());
    };
    socket.onmessage = (/** @type {{data: string}} */ event) => this.#receive(event.data);
    socket.onclose = (/** @type {{code: number, reason: string}} */ event) => this.#lost(event.code, event.reason);
    socket.onerror = () => {}; // onclose is called, too
    socket.onroom = (/** @type {number} */ places) => this.#each((each) => each.onroom?.(places)); // another tab gave them up
  }

  // Drops the connection, in any state, and its requests. The phase stays as it is.
  /** @param {number} [code] */
  #drop(code) {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#secretTimer);
    this.#retryTimer = undefined;
    this.#clearDeadline();
    this.#generation++;
    const socket = this.#socket;
    if (socket) {
      this.#socket = socket.onopen = socket.onmessage = socket.onclose = undefined;
      socket.close(code);
    }
    this.#renewals.unshift(...[...this.requests.values()].flatMap(({ renewals = [] }) => renewals)); // the next connection sends the secret for them
    for (const { answered } of this.requests.values()) {
      answered?.(new SyncError("unavailable", "the connection broke before the answer"));
    }
    this.requests.clear();
    this.#stale = false;
    this.#each((each) => each.onclose?.());
  }

  /** @param {number} [code] @param {string} [reason] */
  #lost(code = ABNORMAL_CLOSURE, reason = "") {
    this.#drop();
    if (FATAL_CODES.includes(code) || (code >= 4500 && code < 4600)) {
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
    this.error = error;
    this.#set("denied");
    settle(this.#renewals, error);
  }

  /** The longest wait after so many failures, in ms. @param {number} failures */
  backoff(failures) {
    const { min, max } = this.#context;
    return Math.min(max, min * 2 ** failures, LONGEST_TIMER);
  }

  // Full jitter, so that clients that were lost together do not come back together.
  /** @param {number} [ms] */
  #retryLater(ms = Math.random() * this.backoff(this.#failures)) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = after(ms, () => this.#open());
  }

  // Checking that the node is still there.

  // Gives the connection up unless the node sends something in time.
  /** @param {number} ms */
  #setDeadline(ms) {
    this.#deadline ??= after(ms, () => this.#lost());
  }

  #clearDeadline() {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
  }

  // Pings the node when it may be gone: a half-open connection looks like any other.
  /** @param {number} ms */
  #probe(ms) {
    if (this.#phase === "live" && !this.#deadline) {
      this.#ping();
      this.#setDeadline(ms);
    } else if (this.#retryTimer) { // the reason to wait may have gone
      this.#failures = 0;
      this.#retryLater();
    }
  }

  // Durations are measured by performance.now(), which is never set. That clock may stand still
  // while the machine sleeps; Date.now() then shows it.
  #check() {
    const now = Date.now();
    if (Math.abs(now - this.#checkedAt) > 3 * CHECK_EVERY) { // the machine has slept, or its clock was set
      this.#receivedAt = performance.now();
      this.#probe(this.#context.timeout / 2);
    } else if (this.#phase === "live" && performance.now() - this.#receivedAt > (globalThis.navigator?.onLine === false ? 0 : PING_AFTER)) {
      this.#probe(this.#context.timeout);
    }
    this.#checkedAt = now;
  }

  /** @param {any} event */
  #onPageEvent({ type, persisted }) {
    if (type === "pagehide") {
      if (persisted && this.#phase !== "denied") { // a browser does not keep a page with an open connection
        this.#lost();
        clearTimeout(this.#retryTimer); // pageshow connects again
      }
    } else if (type !== "visibilitychange" || !globalThis.document?.hidden) {
      this.#probe(this.#context.timeout / 2);
    }
  }

  // Receiving.

  /** @param {string} text */
  #receive(text) {
    this.#receivedAt = performance.now();
    if (this.#phase === "live") { // until then only the answer counts
      this.#clearDeadline();
    }
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      message = text;
    }
    const { action, ref, body } = message ?? {};
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
      case "unsubscribed":
      case "event":
      case "gap":
        this.#each((each) => each.onmessage?.(action, body));
        break;
      case "stale":
      case "fresh":
        this.#stale = action === "stale";
        this.#set(this.#phase);
        break;
      case "expiring":
        if (typeof this.#secret === "function") {
          this.#sendSecret();
        } else {
          enqueue(this.#context, this.#context.onExpiring, body.seconds);
        }
        break;
      default:
        enqueue(this.#context, this.#context.onMessage, message);
    }
  }

  /** @param {number} ref */
  #acknowledged(ref) {
    const request = this.requests.get(ref) ?? {};
    this.requests.delete(ref);
    if (request.first) {
      this.#clearDeadline();
      this.#liveSince = performance.now();
      this.#set("live");
    }
    settle(request.renewals);
    request.answered?.();
    this.#each((each) => each.onack?.(request));
  }

  /** @param {number} ref @param {any} body */
  #failed(ref, body) {
    const request = this.requests.get(ref);
    const error = new SyncError(body.code, body.message, body);
    if (request?.entries) {
      this.#each((each) => each.onerror?.(request, body));
    } else if (request?.answered) {
      this.requests.delete(ref);
      request.answered(error);
    } else if (request?.first) { // the connection has no earlier secret to go on with
      if (error.code === "unavailable") {
        this.#lost();
      } else {
        this.#deny(error); // rather than show what an unauthenticated page may see
      }
    } else if (!request || request.renewals) {
      settle(request?.renewals, error);
      report(this.#context, error);
    }
  }
}
