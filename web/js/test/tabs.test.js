// Tabs that share a connection, as far as that needs no browser: what a browser may
// refuse, and what Node has.

import test from "node:test";
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { acrossTabs } from "../tabs.js";
import { define, Locks } from "./locks.js";
import { actions, follow, startWorld, until } from "./world.js";

const refusal = () => new DOMException("the request was denied", "SecurityError");

/** Requests that a browser refuses; a page that asks without end is stopped by the 1,000th. */
const refusing = (refuse) => ({
  asked: 0,
  request() {
    return ++this.asked > 1_000 ? new Promise(() => {}) : refuse();
  },
});

for (const [what, globals] of Object.entries({
  "Web Locks that reject": { navigator: { locks: refusing(() => Promise.reject(refusal())) } },
  "Web Locks that throw": { navigator: { locks: refusing(() => { throw refusal(); }) } },
  "a BroadcastChannel that throws": { navigator: { locks: new Locks() }, BroadcastChannel: class { constructor() { throw refusal(); } } },
})) {
  test(`${what}: an ordinary connection`, async (t) => {
    const world = await startWorld(t);
    await world.write("1", 1);
    define(t, { ...globals, WebSocket: world.WebSocket });
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 1);
    t.after(() => clearInterval(ticking));
    const states = [];
    const sync = world.connect({ WebSocket: acrossTabs("me") });
    sync.onState((state) => states.push(state));
    const watcher = follow(sync, "1");
    await until("the row", () => watcher.n === 1);
    assert.deepEqual(states, ["live"]);
    assert.ok(ticks > 0, "the page's own timers go on");
    await world.tell("cut");
    await until("back", () => world.sockets.length === 2 && watcher.last.state === "live");
    assert.deepEqual(actions(world.socket.sent), ["secret", "subscribe"]);
    const asked = globals.navigator.locks.asked ?? 0;
    assert.ok(asked <= 2, `it asked ${asked} times`);
    sync.close();
    await until("gone", async () => (await world.tell("figures")).Clients === 0);
  });
}

test("a program that has Web Locks and no events shares a connection, too", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  define(t, { navigator: { locks: new Locks() }, crypto: webcrypto, WebSocket: world.WebSocket }); // Node.js 18 has no crypto
  assert.equal(globalThis.addEventListener, undefined);
  const Shared = acrossTabs("me");
  const watchers = [0, 1].map(() => follow(world.connect({ WebSocket: Shared }), "1"));
  await until("the row", () => watchers.every((watcher) => watcher.n === 1 && watcher.last.state === "live"));
  assert.equal((await world.tell("figures")).Clients, 1);
});
