// What tabs need of a browser, for several of them in one program.

import { webcrypto } from "node:crypto";
import { acrossTabs } from "../tabs.js";

/** Has the test see other globals than there are. */
export function define(t, globals) {
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() => before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]);
  }
}

/** Web Locks, as far as tabs use them. */
export class Locks {
  held = new Map(); // by name
  waiting = [];

  request(name, { steal, signal } = {}, callback) {
    if (steal && signal) {
      return Promise.reject(new DOMException("one or the other", "NotSupportedError"));
    }
    return new Promise((resolve, reject) => {
      const request = { name, callback, resolve, reject };
      const stop = (why) => {
        this.waiting = this.waiting.filter((other) => other !== request);
        reject(new DOMException(why, "AbortError"));
      };
      if (steal) {
        this.held.get(name)?.reject(new DOMException("stolen", "AbortError"));
        this.held.delete(name);
        this.waiting.unshift(request);
      } else {
        this.waiting.push(request);
        signal?.addEventListener("abort", () => this.held.get(name) === request || stop("withdrawn"));
        if (signal?.aborted) stop("withdrawn");
      }
      setImmediate(() => this.grant());
    });
  }

  grant() {
    for (const request of this.waiting) {
      const { name, callback, resolve, reject } = request;
      if (this.held.has(name)) continue;
      this.held.set(name, request);
      this.waiting = this.waiting.filter((other) => other !== request);
      (async () => callback({ name }))().then(resolve, reject).finally(() => {
        if (this.held.get(name) === request) this.held.delete(name);
        this.grant();
      });
    }
  }

  /** How many wait for a lock. */
  queue(name) {
    return this.waiting.filter((request) => request.name === name).length;
  }
}

const STEALS = 3_000; // ms after which a tab that is not answered takes the lead

/**
 * Starts what several tabs need, which is gone after the test. The tabs share the
 * time of one program, which may come late to all of them: unless the test wants them to
 * steal the lead from each other, they have more patience than they have in browsers.
 */
export function startTabs(t, world, { steal = false } = {}) {
  const locks = new Locks();
  const every = globalThis.setInterval;
  define(t, {
    navigator: { locks }, crypto: webcrypto, WebSocket: world.WebSocket, addEventListener: undefined,
    setInterval: (f, ms) => every(f, ms === STEALS && !steal ? 100 * ms : ms),
  });
  const room = `entity-sync me ${world.url}`;
  return {
    locks,
    room,
    /** Opens a tab, which hears its own events; the first one leads. Returns its client, and what that went through. */
    async open(options = {}) {
      const page = new EventTarget();
      globalThis.addEventListener = page.addEventListener.bind(page);
      const Shared = acrossTabs("me");
      new Shared(world.url, "entity-sync.v2").close(); // what it begins, its client shares
      const sync = world.connect({ WebSocket: Shared, ...options });
      globalThis.addEventListener = undefined;
      const states = [];
      sync.onState((state) => states.push(state));
      while (!locks.held.has(room)) await new Promise((resolve) => setImmediate(resolve));
      return { sync, states, happens: (type) => page.dispatchEvent(new Event(type)) };
    },
  };
}
