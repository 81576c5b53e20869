// Many keys that come and go: how many messages that takes, and who gets the places
// that a node has for one client.

import test from "node:test";
import assert from "node:assert/strict";
import { actions, follow, neverBackwards, startWorld, until } from "./world.js";
import { rows, startScript } from "./script.js";

const range = (from, to) => Array.from({ length: to - from }, (_, i) => String(from + i));

for (const linger of [0, 300]) {
  test(`pages of 900 keys are a few messages each, where keys linger for ${linger} ms`, async (t) => {
    const world = await startWorld(t, { maxSubscriptions: -1, subscribeRate: 1_000_000 });
    const ids = range(0, 3_600);
    await world.tell("store", { ids, row: { n: 1 } });
    const sync = world.connect({ linger });
    let shown = [];
    for (let page = 0; page < 4; page++) {
      const next = ids.slice(page * 900, page * 900 + 900).map((id) => follow(sync, id));
      shown.forEach(({ end }) => end());
      shown = next;
      await until("the page", () => next.every((watcher) => watcher.n === 1 && watcher.last.state === "live"));
    }
    await until("the earlier pages are let go", async () => (await world.tell("figures")).Subscriptions === 900);
    const said = world.socket.sent.length;
    assert.ok(said < 20, `${said} messages`);
  });
}

test("what lingers gives its places to what is shown, and nothing flashes", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 20, subscribeRate: 100_000 });
  const ids = range(0, 60);
  await world.tell("store", { ids, row: { n: 1 } });
  const sync = world.connect({ linger: 600_000 });
  let shown = [];
  for (let page = 0; page < 4; page++) {
    shown.forEach(({ end }) => end());
    shown = ids.slice(page * 15, page * 15 + 15).map((id) => follow(sync, id));
    await until("the page", () => shown.every((watcher) => watcher.n === 1 && watcher.last.state === "live"));
    assert.deepEqual(shown.flatMap(({ states }) => states), shown.map(() => "live"));
  }
  const said = world.socket.sent.length;
  assert.ok(said < 20, `${said} messages`);
});

test("those that no place is left for are denied, and what lingered is not in the way", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 10, subscribeRate: 100_000 });
  const ids = range(0, 30);
  await world.tell("store", { ids, row: { n: 1 } });
  const sync = world.connect({ linger: 600_000 });
  const first = ids.slice(0, 6).map((id) => follow(sync, id));
  await until("the first", () => first.every((watcher) => watcher.n === 1));
  first.forEach(({ end }) => end());
  const second = ids.slice(10, 25).map((id) => follow(sync, id));
  await until("ten are live and five denied", () => second.filter(({ n }) => n === 1).length === 10
    && second.filter(({ last }) => last?.error?.code === "too_many_subscriptions").length === 5);
  assert.deepEqual([...new Set(second.map(({ states }) => states.join(" ")))].sort(), ["denied", "live"]);
});

test("places that the node takes from some are given to as many", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 4, subscribeRate: 100_000 });
  const ids = range(0, 8);
  await world.tell("store", { ids, row: { n: 1 } });
  const sync = world.connect();
  const watchers = ids.map((id) => follow(sync, id));
  await until("four are too many", () => watchers.slice(4).every(({ last }) => last?.state === "denied") && watchers.slice(0, 4).every(({ n }) => n === 1));
  for (const id of ["0", "1", "2"]) await world.tell("hide", { id, on: true });
  for (const id of ["0", "1", "2"]) await world.tell("notify", { id });
  await until("three of them have a place", () => watchers.slice(4).filter(({ last }) => last.state === "live").length === 3);
  watchers.forEach(neverBackwards);
});

for (const [how, free] of Object.entries({
  "is still free": async () => {},
  "was offered to another key, which could not take it": async (world, sync) => {
    const other = follow(sync, "hidden");
    await until("the other key is denied", () => other.last?.state === "denied");
    const acks = () => actions(world.socket.received).filter((action) => action === "ack").length;
    await until("all requests are answered", () => acks() === world.socket.sent.length);
  },
})) {
  test(`a key that no place was left for comes back while it lingers, and takes the place that ${how}`, async (t) => {
    const world = await startWorld(t, { maxSubscriptions: 1 });
    await world.tell("store", { ids: ["1", "2"], row: { n: 1 } });
    await world.tell("hide", { id: "hidden", on: true });
    const sync = world.connect({ linger: 600_000 });
    const one = follow(sync, "1");
    await until("the first is live", () => one.n === 1);
    const gone = follow(sync, "2");
    await until("the second is one too many", () => gone.last?.error?.code === "too_many_subscriptions");
    gone.end();
    await world.tell("hide", { id: "1", on: true });
    await world.tell("notify", { id: "1" });
    await until("the node takes the first one's place", () => one.last.state === "denied");
    await free(world, sync);
    const back = follow(sync, "2");
    await until("the second is live", () => back.last?.state === "live");
    assert.deepEqual(back.states.filter((state) => state !== "denied"), ["live"], "and does not flash");
  });
}

test("a key that comes back after it found no place has another one that lingers give way", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 1 });
  await world.tell("store", { ids: ["1", "2"], row: { n: 1 } });
  const sync = world.connect({ linger: 600_000 });
  const one = follow(sync, "1");
  await until("the first is live", () => one.n === 1);
  const gone = follow(sync, "2");
  await until("the second is one too many", () => gone.last?.error?.code === "too_many_subscriptions");
  gone.end();
  one.end();
  const back = follow(sync, "2");
  await until("the second is live", () => back.last?.state === "live");
});

test("a place that the first one cannot take is given to the next", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 2 });
  await world.tell("store", { ids: ["1", "2", "3", "4"], row: { n: 1 } });
  const sync = world.connect({ linger: 0, retry: { min: 600_000, max: 600_000 } });
  t.mock.method(Math, "random", () => 1);
  const [one, , three, four] = ["1", "2", "3", "4"].map((id) => follow(sync, id));
  await until("two are too many", () => three.last?.state === "denied" && four.last?.state === "denied");
  await world.tell("unavailable", { id: "3", on: true });
  one.end();
  await until("the fourth is live", () => four.last.state === "live");
  assert.equal(sync.get("items", "3").error.code, "unavailable");
});

test("a key that comes back while it lingers is asked for again where it was refused", async (t) => {
  const held = [];
  const script = await startScript(t, ({ action, ref, body }, { say }) => {
    if (action !== "subscribe") return false;
    if (held.push({ ref, body }) === 1) return true;
    say({ action: "ack", ref });
    rows(body).forEach(say);
    return true;
  });
  t.mock.method(Math, "random", () => 1); // it is forgotten when it is due, so that is late
  const sync = script.connect({ linger: 600_000, retry: { min: 600_000, max: 600_000 } });
  const gone = follow(sync, "1");
  await until("it is asked", () => held.length === 1);
  gone.end();
  script.say({ action: "error", ref: held[0].ref, body: { code: "unavailable", message: "later", entity: "items", id: "1" } });
  script.say({ action: "ack", ref: held[0].ref });
  await until("it is refused", () => sync.get("items", "1").error?.code === "unavailable");
  const back = follow(sync, "1");
  await until("the row", () => back.last?.state === "live");
});

test("what is unavailable for the first time is asked for soon, however long another one has waited", async (t) => {
  const ready = new Set();
  const script = await startScript(t, ({ action, ref, body }, { say }) => {
    if (action !== "subscribe") return false;
    for (const key of body) {
      if (ready.has(key.id)) rows(key).forEach((row) => setTimeout(say, 0, row));
      else say({ action: "error", ref, body: { ...key, code: "unavailable", message: "later" } });
    }
    say({ action: "ack", ref });
    return true;
  });
  const sync = script.connect({ retry: { min: 10, max: 600_000 } });
  const random = t.mock.method(Math, "random", () => 0.01);
  const old = follow(sync, "old");
  await until("it was tried a few times", () => script.asked("subscribe").length > 8);
  random.mock.mockImplementation(() => 1);
  const before = script.asked("subscribe").length;
  await until("it waits for long", () => script.asked("subscribe").length > before);
  const fresh = follow(sync, "fresh");
  await until("it is refused", () => sync.get("items", "fresh").error?.code === "unavailable");
  ready.add("fresh");
  const asked = script.asked("subscribe").length;
  await until("the row", () => fresh.last?.state === "live");
  assert.ok(script.asked("subscribe").slice(asked).every(({ body }) => body.every(({ id }) => id === "fresh")), "and the old one waits for its own time");
  assert.equal(old.last.state, "connecting");
});
