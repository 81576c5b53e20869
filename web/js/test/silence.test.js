// Whatever does not answer is waited for no longer than `timeout`.

import test from "node:test";
import assert from "node:assert/strict";
import { follow, startWorld, until } from "./world.js";
import { startScript } from "./script.js";

const never = () => new Promise(() => {});

test("a secret function that never settles is asked again, and said to be late", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const errors = [];
  let asked = 0;
  const sync = world.connect({ timeout: 1_000, secret: () => ++asked > 2 ? "me" : never(), onError: (error) => errors.push(error.code) });
  const watcher = follow(sync, "1");
  await until("it is told", () => watcher.last?.state === "offline");
  await until("the row", () => watcher.n === 1 && sync.state === "live");
  assert.deepEqual([asked, errors], [3, ["unavailable", "unavailable"]]);
});

test("a renewal whose function never settles is rejected, and what is shown goes on", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const errors = [];
  const sync = world.connect({ timeout: 1_000, onError: (error) => errors.push(error.code) });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  await assert.rejects(sync.renew(never), { code: "unavailable" });
  assert.deepEqual([sync.state, errors], ["live", ["unavailable"]]);
  await sync.renew("me");
  await world.write("1", 2);
  await until("the change", () => watcher.n === 2);
});

test("a node that says something, and not that the secret is taken, is given up", async (t) => {
  let silent = true;
  const script = await startScript(t, ({ action }, { say }) => {
    if (!silent) return false;
    if (action === "secret") say({ action: "stale" });
    return true;
  });
  const sync = script.connect({ timeout: 500 });
  await until("it is tried again", () => script.connections > 1);
  silent = false;
  await until("live", () => sync.state === "live");
});

test("a clock that is set back by an hour does not have the client trust a silent node", async (t) => {
  const world = await startWorld(t);
  let ahead = 0;
  const now = Date.now;
  t.mock.method(Date, "now", () => now() + ahead);
  const every = globalThis.setInterval;
  t.mock.method(globalThis, "setInterval", (f) => every(f, 20));
  const sync = world.connect({ timeout: 500 });
  await until("live", () => sync.state === "live");
  await world.tell("freeze", { on: true });
  ahead = -3_600_000;
  await until("given up", () => sync.state === "offline");
  await world.tell("cut");
  await world.tell("freeze", { on: false });
  await until("back", () => sync.state === "live");
  const asked = world.socket.sent.length;
  const stop = setInterval(() => { ahead += 5_000; }, 20);
  t.after(() => clearInterval(stop));
  await until("asked by the new clock", () => world.socket.sent.length > asked);
});
