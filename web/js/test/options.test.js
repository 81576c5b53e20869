// Options that are given as undefined, or are larger than a timer takes.

import test from "node:test";
import assert from "node:assert/strict";
import WS from "ws";
import { connect } from "../index.js";
import { actions, follow, startWorld, until } from "./world.js";

/**
 * Notes the client's timers, and those of them that are set for more than a minute, or
 * for no number of milliseconds. Node's own fetch sets others.
 */
function watchTimers(t) {
  const timers = { all: 0, odd: [] };
  const real = globalThis.setTimeout;
  t.mock.method(globalThis, "setTimeout", (f, ms, ...args) => {
    if (/\/web\/js\/[\w-]+\.js:/.test(new Error().stack)) {
      timers.all++;
      if (ms > 60_000 || Number.isNaN(Number(ms))) timers.odd.push(ms);
    }
    return real(f, ms, ...args);
  });
  return timers;
}

test("an option that is undefined is one that is not given", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: -1, subscribeRate: 100_000 });
  const timers = watchTimers(t);
  const ids = Array.from({ length: 300 }, (_, i) => String(i).padEnd(200, "x"));
  await world.tell("store", { ids, row: { n: 1 } });
  const sync = world.connect({
    timeout: undefined, linger: undefined, maxMessageBytes: undefined, retry: undefined,
    signal: undefined, onMessage: undefined, onExpiring: undefined,
  });
  const watchers = ids.map((id) => follow(sync, id));
  await until("all are there", () => watchers.every((w) => w.n === 1));
  assert.ok(world.socket.sent.every((text) => text.length <= 32_768));
  assert.throws(() => sync.send({ text: "x".repeat(33_000) }), RangeError);
  watchers[0].end();
  const again = follow(sync, ids[0]);
  await until("it was kept", () => again.n === 1);
  assert.ok(!actions(world.socket.sent).includes("unsubscribe"));
  assert.ok(timers.all > 0);
  assert.deepEqual(timers.odd, []);
});

test("limits of waiting that are undefined are those that are not given", async (t) => {
  const waits = [];
  const real = globalThis.setTimeout;
  t.mock.method(Math, "random", () => 1);
  t.mock.method(globalThis, "setTimeout", (f, ms, ...args) => {
    if (String(f).includes("#open")) {
      waits.push(ms);
      ms = 1;
    }
    return real(f, ms, ...args);
  });
  const sync = connect("ws://127.0.0.1:1/", { WebSocket: WS, retry: { min: undefined, max: undefined } });
  t.after(() => sync.close());
  await until("eight attempts", () => waits.length >= 8);
  assert.deepEqual(waits.slice(0, 8), [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
});

for (const forever of [2 ** 31, 1e15, Infinity]) {
  test(`waits of ${forever} ms do not end at once`, async (t) => {
    const world = await startWorld(t);
    await world.write("1", 1);
    const sync = world.connect({ timeout: forever, linger: forever, retry: { min: forever, max: forever } });
    const states = [];
    sync.onState((state) => states.push(state));
    const watcher = follow(sync, "1");
    await until("the row", () => watcher.n === 1);
    watcher.end();
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual(actions(world.socket.sent), ["secret", "subscribe"], "it lingers");
    await world.tell("cut");
    await until("offline", () => sync.state === "offline");
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.deepEqual([states, world.sockets.length], [["live", "offline"], 1], "it waits");
  });
}
