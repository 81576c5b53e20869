import test from "node:test";
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { actions, follow, startWorld, until } from "./world.js";

test("rows come, change, go and come back", async (t) => {
  const world = await startWorld(t);
  await world.write("100", 1);
  const sync = world.connect();
  assert.equal(sync.state, "connecting");
  const watcher = follow(sync, "100");
  assert.deepEqual(sync.get("items", "100"), {
    entity: "items", id: "100", rows: undefined, row: undefined, version: undefined, state: "connecting", error: undefined,
  });
  await until("the row", () => watcher.n === 1);
  assert.equal(sync.state, "live");
  assert.deepEqual(watcher.states, ["live"]);
  assert.deepEqual(watcher.last.rows, [{ id: "100", n: 1 }]);
  assert.equal(sync.get("items", 100), watcher.last, "a number is an id, too");

  await world.write("100", 2, { node: 1 });
  await until("the change", () => watcher.n === 2);
  await world.tell("delete", { id: "100" });
  await until("the end", () => watcher.last.rows.length === 0);
  assert.equal(watcher.last.row, undefined);
  assert.equal(watcher.last.state, "live");
  await world.write("100", 3);
  await until("the return", () => watcher.n === 3);
  assert.equal(watcher.seen.length, 4);
});

test("those who watch one key share one subscription", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  const first = follow(sync, "1");
  const second = follow(sync, "1");
  await until("both have it", () => first.n === 1 && second.n === 1);
  const late = follow(sync, "1");
  await until("one who comes late has it, too", () => late.n === 1);
  assert.equal(late.last, first.last);
  first.end();
  first.end();
  second.end();
  await world.write("1", 2);
  await until("the last one goes on", () => late.n === 2);
  assert.equal(first.seen.length, 1, "nothing after the end");
  late.end();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
  assert.equal(sync.get("items", "1"), undefined);
  assert.deepEqual(actions(world.socket.sent), ["secret", "subscribe", "unsubscribe"]);
});

test("what is asked for in one go is said in one message", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  await until("live", () => sync.state === "live");
  const watchers = Array.from({ length: 50 }, (_, i) => follow(sync, i));
  await until("all are answered", () => watchers.every((w) => w.last?.state === "live"));
  assert.deepEqual(actions(world.socket.sent), ["secret", "subscribe"]);
});

test("who leaves and comes back soon costs nothing", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const first = follow(sync, "1");
  await until("the row", () => first.n === 1);
  first.end();
  const again = follow(sync, "1");
  await until("the row at once", () => again.n === 1);
  assert.equal(again.last, first.last);
  again.end();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
  assert.deepEqual(actions(world.socket.sent), ["secret", "subscribe", "unsubscribe"]);
});

test("who comes after one that was about to be let go is not let go with it", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 500 });
  const first = follow(sync, "1");
  await until("the row", () => first.n === 1);
  first.end();
  await world.tell("cut"); // what nobody watches is not asked for again
  await until("back", () => world.sockets.length === 2 && sync.state === "live");
  const second = follow(sync, "1");
  await until("the row", () => second.n === 1);
  await new Promise((resolve) => setTimeout(resolve, 600)); // until the first would have gone
  await world.write("1", 2);
  await until("the change", () => second.n === 2);
});

test("leaving and coming back on the wire shows no older subscription's rows", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  let watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  await world.tell("slow", { ms: 50 });
  for (let n = 2; n < 30; n += 2) {
    await world.write("1", n); // which is on its way
    watcher.end();
    await new Promise((resolve) => setTimeout(resolve, 5)); // until that is said
    await world.write("1", n + 1);
    watcher = follow(sync, "1");
    await until("a row", () => watcher.last);
    assert.equal(watcher.n, n + 1);
  }
});

test("thousands of keys with long names go in messages that the node takes", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: -1, subscribeRate: 100_000 });
  const ids = Array.from({ length: 1500 }, (_, i) => `${i}-`.padEnd(i % 2 ? 255 : 128, i % 3 ? "x" : '"').slice(0, i % 2 ? 255 : 128));
  ids.push("ä".repeat(127), "日".repeat(85), "🌍".repeat(63));
  await world.tell("store", { ids, row: { n: 1 } });
  const sync = world.connect();
  const watchers = ids.map((id) => follow(sync, id));
  await until("all are there", () => watchers.every((w) => w.n === 1));
  const largest = Math.max(...world.socket.sent.map((text) => Buffer.byteLength(text)));
  assert.ok(largest <= 32 << 10, `the largest message has ${largest} bytes`);
  assert.ok(world.socket.sent.length < 30, `${world.socket.sent.length} messages`);

  await world.tell("cut"); // and the same with versions
  await until("all are there again", () => world.sockets.length === 2 && watchers.every((w) => w.last.state === "live"));
  assert.ok(world.socket.sent.every((text) => Buffer.byteLength(text) <= 32 << 10));
});

test("what a callback throws or rejects with breaks nothing", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const errors = [];
  const sync = world.connect({
    onError: (error) => {
      errors.push(error.message);
      throw new Error("even here");
    },
    onMessage: () => { throw new Error("message"); },
  });
  sync.onState(() => { throw new Error("state"); });
  sync.subscribe("items", "1", () => { throw new Error("sync"); });
  sync.subscribe("items", "1", async () => { throw new Error("async"); });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  sync.send({ hello: 1 });
  await until("heard", async () => (await world.tell("heard")).length === 1);
  await world.tell("say", { text: "hi" });
  await until("all complaints", () => errors.length === 4);
  assert.deepEqual(errors.sort(), ["async", "message", "state", "sync"]);
  await world.write("1", 2);
  await until("the change", () => watcher.n === 2);
});

test("without onError complaints go to the console", async (t) => {
  const world = await startWorld(t);
  const logged = t.mock.method(console, "error", () => {});
  const sync = world.connect({ onError: undefined });
  sync.subscribe("items", "1", () => { throw new Error("mine"); });
  await until("it is logged", () => logged.mock.calls.length === 1);
  assert.equal(logged.mock.calls[0].arguments[0].message, "mine");
});

test("a callback may end things, and itself", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const seen = [];
  const ends = [0, 1].map((i) => sync.subscribe("items", "1", (u) => {
    seen.push(i);
    ends.forEach((end) => end());
    sync.subscribe("items", "2", () => sync.close());
  }));
  await until("closed", () => sync.state === "offline");
  assert.deepEqual(seen, [0], "the other was ended before its turn");
});

test("a for-await loop sees the newest, and ends with its signal", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const stop = new AbortController();
  const seen = [];
  let pause = Promise.resolve();
  const loop = (async () => {
    for await (const update of sync.watch("items", "1", { signal: stop.signal })) {
      seen.push(update.row?.n);
      await pause;
    }
  })();
  await until("the first", () => seen.length === 1);
  let goOn;
  pause = new Promise((resolve) => { goOn = resolve; });
  await world.write("1", 2);
  await until("the second", () => seen.length === 2);
  for (let n = 3; n <= 6; n++) await world.write("1", n);
  const other = follow(sync, "1");
  await until("the sixth is here", () => other.n === 6);
  goOn();
  await until("it is shown", () => seen.at(-1) === 6);
  assert.deepEqual(seen, [1, 2, 6], "what was replaced is skipped");
  stop.abort();
  await loop;

  for await (const update of sync.watch("items", "1")) {
    assert.equal(update.row.n, 6);
    break;
  }
  for await (const _ of sync.watch("items", "1", { signal: stop.signal })) assert.fail("its signal is aborted");
  const closed = (async () => {
    for await (const _ of sync.watch("items", "1"));
  })();
  await new Promise((resolve) => setTimeout(resolve, 0));
  sync.close();
  await closed;
  for await (const _ of sync.watch("items", "1")) assert.fail("it is closed");
});

test("signals end subscriptions and the client", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const all = new AbortController();
  const one = new AbortController();
  const sync = world.connect({ signal: all.signal, linger: 0 });
  const watcher = follow(sync, "1", "items", { signal: one.signal });
  await until("the row", () => watcher.n === 1);
  one.abort();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
  follow(sync, "1", "items", { signal: one.signal });
  assert.equal(sync.get("items", "1"), undefined, "its signal is aborted");
  all.abort();
  await until("gone", async () => (await world.tell("figures")).Clients === 0);
  assert.equal(sync.state, "offline");
  assert.equal(world.connect({ signal: all.signal }).state, "offline", "never begun");
  assert.equal(world.sockets.length, 1);
});

test("what is closed, or has ended, leaves no listener on a signal or on the page", async (t) => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  t.after(() => delete globalThis.addEventListener);
  const listeners = (target, ...types) => types.reduce((n, type) => n + getEventListeners(target, type).length, 0);
  const onPage = () => listeners(page, "online", "offline", "pageshow", "pagehide", "visibilitychange");
  const world = await startWorld(t);
  await world.write("1", 1);
  const { signal } = new AbortController(); // which outlives all
  const own = new AbortController();
  const sync = world.connect({ signal });
  const watchers = Array.from({ length: 20 }, (_, i) => follow(sync, String(i % 3), "items", { signal }));
  const loop = sync.watch("items", "1", { signal });
  await loop.next();
  const waits = loop.next();
  assert.deepEqual([listeners(signal, "abort"), onPage()], [22, 5]);
  watchers.slice(10).forEach(({ end }) => end());
  assert.equal(listeners(signal, "abort"), 12);
  follow(sync, "1", "items", { signal: own.signal });
  sync.close();
  await waits;
  assert.deepEqual([listeners(signal, "abort"), listeners(own.signal, "abort"), onPage()], [0, 0, 0]);
  follow(sync, "1", "items", { signal });
  const other = world.connect({ signal });
  follow(other, "1", "items", { signal: own.signal });
  own.abort();
  other.close();
  assert.deepEqual([listeners(signal, "abort"), onPage()], [0, 0]);
});

test("an action by another name is the application's own", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const got = [];
  const sync = world.connect({ onMessage: (message) => got.push(message) });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  sync.send({ let: "the application know me" });
  await until("it does", async () => (await world.tell("heard")).length === 1);
  const others = ['{"Action":"stale"}', '{"ACTION":"delete","body":{"entity":"items","id":"1"}}', '{"action":"Stale"}'];
  for (const text of others) await world.tell("say", { text });
  await world.tell("say", { text: '{"action":"delete","body":{"Entity":"items","ID":"1"}}' }); // of no key
  await world.write("1", 2);
  await until("the change", () => watcher.n === 2);
  assert.deepEqual(got, others.map((text) => JSON.parse(text)));
  assert.deepEqual(watcher.states, ["live", "live"]);
});

test("messages of one's own go both ways", async (t) => {
  const world = await startWorld(t);
  const got = [];
  const sync = world.connect({ onMessage: (message) => got.push(message) });
  assert.equal(sync.send({ hello: 1 }), false, "not connected yet");
  await until("live", () => sync.state === "live");
  assert.equal(sync.send({ hello: 2 }), true);
  await until("heard", async () => (await world.tell("heard")).length === 1);
  assert.deepEqual(await world.tell("heard"), [{ hello: 2 }]);
  for (const text of ['{"kind":"news"}', "plain text", "[1]", "null", '{"action":"mine","body":7}']) await world.tell("say", { text });
  await until("all are here", () => got.length === 5);
  assert.deepEqual(got, [{ kind: "news" }, "plain text", [1], null, { action: "mine", body: 7 }]);
  for (const bad of [{ action: "subscribe" }, [1], "text", null, undefined]) assert.throws(() => sync.send(bad), TypeError);
  assert.throws(() => sync.send({ text: "x".repeat(33_000) }), RangeError);
});

