// One connection for all tabs of a page. By a Web Lock they elect one tab, which has the
// connection and speaks for the others over a BroadcastChannel. Each tab sees an ordinary
// WebSocket. When the leading tab goes away, the others see a connection that broke, and the
// next connection brings what they missed.

import { Hub } from "./hub.js";
import { ABNORMAL_CLOSURE } from "./protocol.js";

const PATIENCE = 3_000; // ms for the leading tab to answer, before the visible tab takes over

/**
 * A WebSocket for the option `WebSocket` of connect, which the tabs of this origin
 * share. In a browser that does not support that, it is the ordinary one.
 *
 * @param {string} name  of the tabs that may share it: everything that one tab is sent, the
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
      const leadership = leaderships.get(room) ?? new Leadership(room, url, protocol);
      leaderships.set(room, leadership);
      if (!leadership.refused) {
        try {
          return new TabSocket(room, url, protocol, leadership);
        } catch { // some browsers have a BroadcastChannel and refuse it
          leadership.refuse();
        }
      }
      return new WebSocket(url, protocol);
    }
  };
}

// Requests a Web Lock. An error that the browser throws becomes a rejection.
/** @param {string} name @param {LockOptions} options @param {() => any} callback */
const request = async (name, options, callback) => navigator.locks.request(name, options, callback);

/** The WebSocket of a tab's client. */
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
  /** @type {((places: number) => void) | undefined} */
  onroom; // another tab gave up places at the node
  #id = crypto.randomUUID();
  #hub = ""; // the hub that it is connected to
  #number = 0; // the tab's number there
  /** @type {BroadcastChannel} */
  #channel;
  #leadership;
  /** @type {any} */
  #timer;
  #release = () => {};

  /** @type {WebSocket | undefined} */
  #own; // an ordinary one, if the browser refuses what sharing needs
  #alone;

  /** @param {string} room @param {string} url @param {string} protocol @param {Leadership} leadership */
  constructor(room, url, protocol, leadership) {
    this.#channel = new BroadcastChannel(room);
    this.#channel.onmessage = ({ data }) => this.#heard(data);
    this.#alone = () => this.#connect(url, protocol);
    this.#leadership = leadership;
    leadership.sockets.add(this.#alone);
    // Held for as long as this socket is in use, so that the leading tab learns when it is not.
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
        leadership.seek(true); // the leading tab may be asleep in the background
      } else {
        this.#alone(); // the browser accepts requests for locks, and grants none
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

  /** @param {number} [code]  without one, the node does not answer */
  close(code) {
    if (this.readyState === 1 && !this.#own && code === undefined) {
      this.#channel.postMessage({ to: this.#hub, from: this.#id, broken: true });
    }
    this.#end(1000, "");
  }

  /** @param {any} message */
  #heard({ hub, leads, welcome, number, to, texts, code, reason, room }) {
    if (leads && this.readyState === 0) {
      this.#channel.postMessage({ hello: this.#id });
    } else if (leads) {
      this.#end(ABNORMAL_CLOSURE, "");
    } else if (welcome === this.#id && this.readyState === 0) {
      clearInterval(this.#timer);
      this.#hub = hub;
      this.#number = number;
      this.readyState = 1;
      this.onopen?.();
    } else if (hub !== this.#hub || !to?.includes(this.#number)) {
      return;
    } else if (code) {
      this.#end(code, reason);
    } else if (room) {
      this.onroom?.(room);
    } else {
      texts.forEach((/** @type {string} */ data) => this.onmessage?.({ data }));
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
  /** @type {AbortController | undefined} */
  #request; // for the lock, until it has ended
  #asleep = false;
  refused = false; // the browser has Web Locks and grants this page none
  /** @type {Set<() => void>} */
  sockets = new Set(); // the functions that make this tab's sockets go on alone

  /** @param {string} room @param {string} url @param {string} protocol */
  constructor(room, url, protocol) {
    this.room = room;
    this.url = url;
    this.protocol = protocol;
    // A tab that is put to sleep must not keep the others waiting.
    for (const type of ["freeze", "pagehide"]) {
      globalThis.addEventListener?.(type, () => this.#sleep(true), { capture: true });
    }
    for (const type of ["resume", "pageshow"]) {
      globalThis.addEventListener?.(type, () => this.#sleep(false), { capture: true });
    }
    this.seek(false);
  }

  /**
   * Leads when no other tab does. If steal is true, leads now, in place of a leading tab that
   * does not answer.
   *
   * @param {boolean} steal
   */
  async seek(steal) {
    if (this.#hub || this.#asleep || this.refused || (this.#request && !steal)) {
      return;
    }
    this.#request?.abort();
    const mine = this.#request = new AbortController();
    const { signal } = mine;
    try {
      await request(this.room, steal ? { steal } : { signal }, () => { // a browser accepts one of the two only
        if (signal.aborted) {
          return undefined;
        }
        this.#hub = new Hub(this.room, this.url, this.protocol, (id) => request(id, {}, () => {}));
        return new Promise((resolve) => { this.#release = () => resolve(undefined); });
      });
    } catch (error) {
      if (signal.aborted) {
        return; // this tab has aborted it
      }
      this.#resign();
      if (/** @type {any} */ (error)?.name === "AbortError") { // stolen: this tab did not answer
        setTimeout(() => this.seek(false)); // a task of its own: an error of the browser does not stop the page
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

  // Neither leads nor waits to lead: a tab that is asleep could not even see that it leads.
  #resign() {
    this.#request?.abort();
    this.#request = undefined;
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
