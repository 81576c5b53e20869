// One connection for all tabs of a page: they elect one of them, by a Web Lock, which
// has the connection and speaks for the others, over a BroadcastChannel. To each tab
// that is just another WebSocket: when the tab that leads goes away, it is a
// connection that broke, and the next one brings what was missed.

import { connect, SyncError } from "./index.js";

const LOST = 1006;
const REFUSED = 4501; // no secret that is valid
const PATIENCE = 3_000; // ms for whoever leads to answer, before the tab that is looked at takes over

/**
 * A WebSocket for the option `WebSocket` of connect, which the tabs of this origin
 * share. Where a browser cannot do that, it is the ordinary one.
 *
 * @param {string} name  of those who may share it: everything that one tab is sent, the
 *   others could see, so it should name the person that the secret stands for
 * @returns {new (url: string, protocol: string) => any}
 */
export function acrossTabs(name) {
  if (!globalThis.navigator?.locks || !globalThis.BroadcastChannel) {
    return globalThis.WebSocket;
  }
  /** @type {Map<string, Leadership>} */
  const leaderships = new Map();
  return class {
    /** @param {string} url @param {string} protocol */
    constructor(url, protocol) {
      const room = `entity-sync ${name} ${url}`;
      const leadership = leaderships.get(room) ?? new Leadership(room, url);
      leaderships.set(room, leadership);
      if (!leadership.refused) {
        try {
          return new TabSocket(room, url, protocol, leadership);
        } catch { // a browser may have a BroadcastChannel and refuse it
          leadership.refuse();
        }
      }
      return new WebSocket(url, protocol);
    }
  };
}

// Requests a Web Lock. What a browser throws is a rejection like any other.
/** @param {string} name @param {LockOptions} options @param {() => any} callback */
const request = async (name, options, callback) => navigator.locks.request(name, options, callback);

/** What a tab's client takes for its WebSocket. */
class TabSocket {
  readyState = 0;
  /** @type {(() => void) | undefined} */
  onopen;
  /** @type {((event: {data: string}) => void) | undefined} */
  onmessage;
  /** @type {((event: {code: number, reason: string}) => void) | undefined} */
  onclose;
  /** @type {(() => void) | undefined} */
  onerror;
  #id = crypto.randomUUID();
  #hub = ""; // that it is connected to
  /** @type {BroadcastChannel} */
  #channel;
  #leadership;
  /** @type {any} */
  #timer;
  #release = () => {};

  /** @type {WebSocket | undefined} */
  #own; // where the browser refuses what tabs need to share one
  #alone;

  /** @param {string} room @param {string} url @param {string} protocol @param {Leadership} leadership */
  constructor(room, url, protocol, leadership) {
    this.#channel = new BroadcastChannel(room);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#alone = () => this.#connect(url, protocol);
    this.#leadership = leadership;
    leadership.sockets.add(this.#alone);
    // Held for as long as this is in use, so that whoever leads learns when it is not.
    request(this.#id, {}, () => new Promise((resolve) => {
      this.#release = () => resolve(undefined);
      if (this.readyState === 3 || this.#own) {
        this.#release();
      } else {
        this.#channel.postMessage({ hello: this.#id });
      }
    })).catch(() => leadership.refuse());
    let looks = 0;
    this.#timer = setInterval(() => {
      if (globalThis.document?.hidden) {
        return;
      }
      looks++;
      if (looks < 3) {
        leadership.seek(true); // a tab in the background may be asleep, and lead
      } else {
        this.#alone(); // the browser takes requests for locks, and answers none
      }
    }, PATIENCE);
  }

  // Goes on as an ordinary WebSocket.
  /** @param {string} url @param {string} protocol */
  #connect(url, protocol) {
    if (this.readyState !== 0 || this.#own) {
      return;
    }
    this.#leave();
    const own = this.#own = new WebSocket(url, protocol);
    own.onopen = () => {
      this.readyState = 1;
      this.onopen?.();
    };
    own.onmessage = (event) => this.onmessage?.(event);
    own.onclose = ({ code, reason }) => this.#end(code, reason);
  }

  /** @param {string} text */
  send(text) {
    if (this.#own) {
      this.#own.send(text);
    } else {
      this.#channel.postMessage({ to: this.#hub, from: this.#id, text });
    }
  }

  close() {
    this.#end(1000, "");
  }

  /** @param {any} message */
  #heard({ to, hub, leads, welcome, text, code, reason }) {
    if (leads && this.readyState === 0) {
      this.#channel.postMessage({ hello: this.#id });
    } else if (leads) {
      this.#end(LOST, "");
    } else if (to !== this.#id || (this.#hub && hub !== this.#hub)) {
      return;
    } else if (welcome) {
      if (this.readyState === 0) {
        clearInterval(this.#timer);
        this.#hub = hub;
        this.readyState = 1;
        this.onopen?.();
      }
    } else if (code) {
      this.#end(code, reason);
    } else {
      this.onmessage?.({ data: text });
    }
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    if (this.readyState !== 3) {
      this.readyState = 3;
      this.#leave();
      this.#own?.close(code === 1000 ? code : undefined);
      this.onclose?.({ code, reason });
    }
  }

  #leave() {
    clearInterval(this.#timer);
    this.#channel.close();
    this.#release();
    this.#leadership.sockets.delete(this.#alone);
  }
}

/** A tab's part in the election. */
class Leadership {
  /** @type {Hub | undefined} */
  #hub;
  #release = () => {};
  #asleep = false;
  refused = false; // by the browser, which has Web Locks and lets this page have none
  /** @type {Set<() => void>} */
  sockets = new Set(); // of this tab that wait or share, as what has them go on alone

  /** @param {string} room @param {string} url */
  constructor(room, url) {
    this.room = room;
    this.url = url;
    // A tab that is put to sleep does not keep the others waiting.
    for (const type of ["freeze", "pagehide"]) {
      globalThis.addEventListener?.(type, () => this.#sleep(true), { capture: true });
    }
    for (const type of ["resume", "pageshow"]) {
      globalThis.addEventListener?.(type, () => this.#sleep(false), { capture: true });
    }
    this.seek(false);
  }

  /**
   * Leads when nobody else does; or now, where steal is true and somebody else does
   * who does not answer.
   *
   * @param {boolean} steal
   */
  async seek(steal) {
    if (this.#hub || this.#asleep || this.refused) {
      return;
    }
    try {
      await request(this.room, { steal }, () => {
        if (this.#hub || this.#asleep) {
          return undefined;
        }
        this.#hub = new Hub(this.room, this.url);
        return new Promise((resolve) => { this.#release = () => resolve(undefined); });
      });
    } catch (error) {
      this.#resign();
      if (/** @type {any} */ (error)?.name === "AbortError") { // stolen: this tab did not answer
        setTimeout(() => this.seek(false)); // a task of its own: the page goes on whatever the browser says
      } else {
        this.refuse();
      }
    }
  }

  refuse() {
    this.refused = true;
    this.#resign();
    this.sockets.forEach((alone) => alone());
  }

  #resign() {
    this.#hub?.close();
    this.#hub = undefined;
    this.#release();
  }

  /** @param {boolean} asleep */
  #sleep(asleep) {
    const woke = this.#asleep && !asleep;
    this.#asleep = asleep;
    if (asleep) {
      this.#resign();
    } else if (woke) {
      this.seek(false);
    }
  }
}

/** A tab, as the one that leads sees it. */
class Tab {
  /** @type {Map<string, () => void>} */
  ends = new Map(); // by key, of what it watches
  /** @type {number | undefined} */
  first = undefined; // request, which is answered when there is a connection
  greeted = false; // it was answered
}

/** Has the connection, and speaks for it to the tabs. */
class Hub {
  #id = crypto.randomUUID();
  /** @type {Map<string, Tab>} */
  #tabs = new Map();
  /** @type {import("./index.js").Sync | undefined} */
  #sync;
  /** @type {string | undefined} */
  #secret;
  #stale = false;
  #channel;
  #url;

  /** @param {string} room @param {string} url */
  constructor(room, url) {
    this.#url = url;
    this.#channel = new BroadcastChannel(room);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    /** @type {any} */ (this.#channel).unref?.(); // or a program in Node would never end
    this.#channel.postMessage({ leads: true });
  }

  close() {
    this.#channel.close();
    this.#sync?.close();
  }

  /** @param {any} message */
  #heard({ hello, to, from, text }) {
    const tab = this.#tabs.get(from);
    if (hello) {
      this.#welcome(hello);
    } else if (tab && to === this.#id) {
      this.#serve(from, tab, JSON.parse(text));
    }
  }

  /** @param {string} id */
  #welcome(id) {
    if (!this.#tabs.has(id)) {
      this.#tabs.set(id, new Tab());
      request(id, {}, () => this.#forget(id)).catch(() => {}); // granted when it is gone
    }
    this.#channel.postMessage({ to: id, hub: this.#id, welcome: true });
  }

  /** @param {string} id */
  #forget(id) {
    this.#tabs.get(id)?.ends.forEach((end) => end());
    this.#tabs.delete(id);
    if (this.#tabs.size === 0) {
      this.#stop();
    }
  }

  #stop() {
    this.#sync?.close();
    this.#sync = undefined;
  }

  /** @param {string} id @param {object | string} message */
  #say(id, message) {
    this.#channel.postMessage({ to: id, hub: this.#id, text: typeof message === "string" ? message : JSON.stringify(message) });
  }

  /** @param {object | string} message */
  #sayAll(message) {
    this.#tabs.forEach(({ greeted }, id) => greeted && this.#say(id, message));
  }

  /** @param {string} id @param {number} code @param {string} reason */
  #dismiss(id, code, reason) {
    this.#channel.postMessage({ to: id, hub: this.#id, code, reason });
    this.#forget(id);
  }

  /** @param {string} id @param {Tab} tab @param {any} message */
  #serve(id, tab, message) {
    const { action, ref, body } = message;
    const isNew = action === "secret" && this.#sync && body !== this.#secret;
    if (action === "secret") {
      this.#secret = body;
    }
    if (!this.#sync) {
      this.#start();
    }
    const sync = /** @type {import("./index.js").Sync} */ (this.#sync);
    const renewed = isNew ? sync.renew(body) : undefined;
    if (!tab.greeted && tab.first === undefined) {
      tab.first = ref;
      this.#greet(id, tab);
    } else if (action === "secret") {
      Promise.resolve(renewed).then(
        () => this.#say(id, { action: "ack", ref }),
        ({ code, message }) => this.#say(id, { action: "error", ref, body: { code, message } }),
      );
    } else if (action) {
      for (const key of [body].flat()) {
        const name = JSON.stringify([key.entity, key.id]);
        tab.ends.get(name)?.();
        tab.ends.delete(name);
        if (action === "subscribe") {
          tab.ends.set(name, this.#watch(sync, id, key));
        }
      }
      this.#say(id, { action: "ack", ref });
    } else {
      sync.send(message);
    }
  }

  // Passes on what is known of a key, where the tab does not know it yet.
  /** @param {import("./index.js").Sync} sync @param {string} id @param {{entity: string, id: string, version?: string}} key */
  #watch(sync, id, key) {
    const { entity, version: known } = key;
    /** @type {unknown} */
    let sent;
    return sync.subscribe(entity, key.id, ({ rows, version, state, error }) => {
      const body = { entity, id: key.id, version };
      if (sync.state === "denied") {
        return; // so is the tab
      }
      if (state === "denied") {
        this.#say(id, { action: "unsubscribed", body: { ...body, code: error?.code, message: error?.message } });
      } else if (rows && rows !== sent && (state === "live" || sync.state === "stale")) {
        const action = rows.length === 0 ? "delete" : !sent && version === known ? "current" : "update";
        this.#say(id, { action, body: action === "update" ? { ...body, rows } : body });
        sent = rows;
      }
    });
  }

  #start() {
    this.#stale = false;
    const sync = connect(this.#url, {
      secret: this.#secret,
      onMessage: (message) => this.#sayAll(message),
      onExpiring: (seconds) => this.#sayAll({ action: "expiring", body: { seconds } }),
      onError: (error) => {
        if (error instanceof SyncError) {
          this.#sayAll({ action: "error", body: { code: error.code, message: error.message } });
        }
      },
    });
    this.#sync = sync;
    sync.onState((state, error) => this.#changed(state, error));
  }

  /** @param {import("./index.js").State} state @param {SyncError} [error] */
  #changed(state, error) {
    if (state === "denied") {
      this.#denied(/** @type {SyncError} */ (error));
    } else if (state === "offline") {
      for (const [id, { greeted }] of [...this.#tabs]) {
        if (greeted) {
          this.#dismiss(id, LOST, "");
        }
      }
    } else if (state !== "connecting") {
      if (this.#stale !== (state === "stale")) {
        this.#stale = state === "stale";
        this.#sayAll({ action: this.#stale ? "stale" : "fresh" });
      }
      this.#tabs.forEach((tab, id) => this.#greet(id, tab));
    }
  }

  // Answers a tab's first request, if there is something to answer.
  /** @param {string} id @param {Tab} tab */
  #greet(id, tab) {
    const state = this.#sync?.state;
    if (!tab.greeted && tab.first !== undefined && (state === "live" || state === "stale")) {
      tab.greeted = true;
      this.#say(id, { action: "ack", ref: tab.first });
      if (state === "stale") {
        this.#say(id, { action: "stale" });
      }
    }
  }

  /** @param {SyncError} error */
  #denied({ code, message, closeCode }) {
    this.#stop(); // another secret begins anew
    for (const [id, { greeted, first }] of [...this.#tabs]) {
      if (!closeCode && !greeted && first !== undefined) {
        this.#say(id, { action: "error", ref: first, body: { code, message } });
      } else {
        this.#dismiss(id, closeCode ?? REFUSED, message);
      }
    }
  }
}
