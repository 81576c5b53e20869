import test from "node:test";
import assert from "node:assert/strict";
import { SyncError, connect } from "../index.js";
import { actions, follow, startWorld, until } from "./world.js";

test("each key that is refused says why, and the rest are live", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 3 });
  for (const id of ["1", "2", "3", "4"]) await world.write(id, 1);
  await world.tell("hide", { id: "2", on: true });
  const sync = world.connect({ linger: 0 });
  const [one, hidden, unknown, ...bad] = [
    follow(sync, "1"), follow(sync, "2"), follow(sync, "1", "nothing"),
    follow(sync, ""), follow(sync, "a\nb"), follow(sync, "x".repeat(256)), follow(sync, "\ud800"), follow(sync, "1", "no entity"), follow(sync, "1", ""),
  ];
  await until("the one is live", () => one.n === 1);
  await until("the others are denied", () => [hidden, unknown, ...bad].every((w) => w.last?.state === "denied"));
  assert.equal(hidden.last.error.code, "forbidden");
  assert.ok(hidden.last.error instanceof SyncError);
  assert.deepEqual([hidden.last.error.entity, hidden.last.error.id], ["items", "2"]);
  assert.equal(unknown.last.error.code, "unknown_entity");
  for (const w of bad) assert.deepEqual(w.seen.map((u) => u.error.code), ["bad_key"], "once");
  assert.equal(actions(world.socket.sent).length, 2, "what is malformed is not even asked for");

  const late = follow(sync, "2");
  await until("one who comes late is told, too", () => late.last?.state === "denied");
  assert.equal(late.last, hidden.last);
});

test("a key that is hidden goes, and comes back with another secret", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ secret: "guest" });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  await world.tell("hide", { id: "guest/1", on: true });
  await world.tell("notify", { id: "1" });
  await until("denied", () => watcher.last.state === "denied");
  assert.equal(watcher.last.rows, undefined, "what may not be seen is not shown");
  await world.write("1", 2);

  await sync.renew("manager");
  await until("it is back", () => watcher.n === 2);
  assert.equal(watcher.last.error, undefined);
  assert.equal(world.sockets.length, 1);
});

test("a key that is denied stays so over a reconnect, without a flicker", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  await world.tell("hide", { id: "1", on: true });
  const sync = world.connect();
  const watcher = follow(sync, "1");
  const gone = follow(sync, "2");
  await until("denied", () => watcher.last?.state === "denied" && gone.last?.state === "live");
  await world.tell("cut");
  await until("back", () => world.sockets.length === 2 && gone.last.state === "live");
  await until("asked again", () => world.socket.received.some((text) => text.includes("unsubscribed")));
  assert.deepEqual(watcher.states, ["denied"]);
  await world.tell("hide", { id: "1", on: false });
  await world.tell("cut");
  await until("seen", () => watcher.n === 1);
});

test("a subscription too many gets the first place that is free", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 2 });
  for (const id of ["1", "2", "3", "4"]) await world.write(id, 1);
  const sync = world.connect({ linger: 0 });
  const [one, , three, four] = ["1", "2", "3", "4"].map((id) => follow(sync, id));
  await until("two are too many", () => three.last?.state === "denied" && four.last?.state === "denied");
  assert.equal(three.last.error.code, "too_many_subscriptions");
  one.end();
  await until("one of them is live", () => three.n === 1);
  assert.equal(four.last.state, "denied");
});

test("what cannot be decided now is asked for again", async (t) => {
  const world = await startWorld(t);
  for (const id of ["1", "2"]) await world.write(id, 1);
  await world.tell("unavailable", { id: "1", on: true });
  const sync = world.connect();
  const watcher = follow(sync, "1");
  const other = follow(sync, "2");
  await until("the other is live", () => other.n === 1);
  await until("why it takes so long", () => watcher.last?.error?.code === "unavailable");
  assert.equal(watcher.last.state, "connecting");
  await until("it was asked for again", () => actions(world.socket.sent).filter((a) => a === "subscribe").length >= 3);
  await world.tell("unavailable", { id: "1", on: false });
  await until("the row", () => watcher.n === 1);
  assert.equal(watcher.last.error, undefined);
  assert.equal(watcher.seen.filter((u) => u.state === "connecting").length, 1, "said once");
});

test("a refusal that names no key finds its key", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  // A node with stricter rules for keys than this client knows: it says that one of
  // several is malformed, and not which, because it may be as long as a message.
  const Stricter = class extends world.WebSocket {
    send(text) {
      super.send(text.replaceAll('"id":"strict"', '"id":""'));
    }
  };
  const sync = world.connect({ WebSocket: Stricter });
  const [one, strict, two] = ["1", "strict", "2"].map((id) => follow(sync, id));
  await until("it is known which", () => strict.last?.error?.code === "bad_key");
  await until("the others are live", () => one.n === 1 && two.last?.state === "live");
});

test("without a WebSocket, or with a url that is none, connecting throws", () => {
  assert.throws(() => connect("not a url", { WebSocket: class {} }), TypeError);
  if (!globalThis.WebSocket) assert.throws(() => connect("ws://127.0.0.1:1"), TypeError);
});

test("a node that slows the client down is reported once, and nothing is lost", async (t) => {
  const world = await startWorld(t, { subscribeRate: 20 });
  const ids = Array.from({ length: 220 }, (_, i) => String(i));
  await world.tell("store", { ids, row: { n: 1 } });
  const errors = [];
  const sync = world.connect({ onError: (error) => errors.push(error.code) });
  const watchers = ids.map((id) => follow(sync, id));
  await until("all are there", () => watchers.every((w) => w.n === 1));
  assert.deepEqual(errors, ["rate_limited"]);
});
