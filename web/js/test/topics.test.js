// Topics: events that come once, in order, or are told as missed.

import test from "node:test";
import assert from "node:assert/strict";
import { topics } from "../topics.js";
import { startTabs } from "./locks.js";
import { actions, follow, startWorld, until } from "./world.js";

/** Subscribes to a topic and notes everything. */
function hear(sync, topic, options = {}) {
  const heard = [];
  const states = [];
  const end = topics(sync).subscribe(topic, (each) => heard.push(each), { onState: (state, error) => states.push(error ? `${state} ${error.code}` : state), ...options });
  return {
    heard,
    states,
    end,
    get live() { return states.at(-1) === "live"; },
    get events() { return heard.flatMap(({ event }) => (event ? [event.data] : [])); },
    get data() { return heard.map(({ event, missed }) => (event ? event.data : `missed ${missed}`)); },
  };
}

const publish = (world, id, row, node = 0) => world.tell("publish", { id, row, node });

test("events of a topic and of those below it come in order, from all nodes", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  assert.equal(topics(sync), topics(sync));
  const all = hear(sync, "news");
  const uk = hear(sync, "news.uk");
  const exact = hear(sync, "news", { exact: true });
  await until("live", () => all.live && uk.live && exact.live);
  assert.deepEqual(all.states, ["connecting", "live"]);
  await publish(world, "news.uk.london", { n: 1 });
  await publish(world, "news", 2);
  await until("both", () => all.heard.length === 2);
  await publish(world, "news.uk", 3, 1);
  await until("the third", () => all.heard.length === 3 && uk.heard.length === 2);
  assert.deepEqual(all.data, [{ n: 1 }, 2, 3]);
  assert.deepEqual(uk.data, [{ n: 1 }, 3]);
  assert.deepEqual(exact.data, [2]);
  const { event, ...rest } = all.heard[0];
  assert.deepEqual(rest, { topic: "news.uk.london", context: ["news.uk", "news"], missed: 0 });
  assert.equal(event.specversion, "1.0");
  uk.end();
  uk.end();
  await publish(world, "news.uk", 4);
  await until("the fourth", () => all.heard.length === 4);
  assert.equal(uk.heard.length, 2, "nothing after the end");
  all.end();
  exact.end();
  await until("all is left", () => actions(world.socket.sent).filter((action) => action === "unsubscribe").length === 2);
});

test("one subscription becomes wider for another, and serves both", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  const exact = hear(sync, "news", { exact: true });
  await until("live", () => exact.live);
  await publish(world, "news.uk", 1);
  await publish(world, "news", 2);
  const all = hear(sync, "news");
  await until("live, too", () => all.live && exact.heard.length === 1);
  const more = () => publish(world, "news.uk", 3);
  await until("it hears what is below", async () => { await more(); return all.heard.length > 0; });
  assert.deepEqual(exact.data, [2]);
});

test("publishing settles when the node has answered", async (t) => {
  const world = await startWorld(t);
  await world.tell("hide", { id: "news.secret", on: true });
  const sync = world.connect();
  await assert.rejects(topics(sync).publish("news", 1), { code: "offline" });
  const one = hear(sync, "news");
  const other = hear(world.connect(), "news");
  await until("live", () => one.live && other.live);
  await topics(sync).publish("news.uk", { title: "rain" });
  await topics(sync).publish(["news.a", "news.b"], 2, { echo: false });
  const event = { specversion: "1.0", id: "mine", source: "/me", type: "said", extension: "kept", data: [3] };
  await topics(sync).publishEvent("news", event);
  await until("all", () => one.heard.length === 2 && other.heard.length === 3);
  assert.deepEqual(one.data, [{ title: "rain" }, [3]]);
  assert.deepEqual(other.heard[2].event, event);
  await assert.rejects(topics(sync).publish("a..b", 1), { code: "bad_topic" });
  await assert.rejects(topics(sync).publish("elsewhere", 1), { code: "unknown_topic", topic: "elsewhere" });
  await assert.rejects(topics(sync).publish("news.secret", 1), { code: "forbidden" });
  await assert.rejects(topics(sync).publishEvent("news", { id: "1" }), { code: "bad_event" });
  await assert.rejects(topics(sync).publish("news", "x".repeat(40_000)), { code: "too_large" });
  await world.tell("bus", { on: false });
  await assert.rejects(topics(sync).publish("news", 1), { code: "unavailable" });
  await world.tell("bus", { on: true });
  const lost = topics(sync).publish("news", 5).catch(({ code }) => code);
  await world.tell("cut");
  assert.ok([undefined, "unavailable"].includes(await lost));
});

test("what was missed comes after a reconnect, once, or is told", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  const news = hear(sync, "news");
  const empty = hear(sync, "news.empty");
  await until("live", () => news.live && empty.live);
  await publish(world, "news", 1);
  await until("the first", () => news.heard.length === 1);
  await world.tell("shut", { on: true });
  await world.tell("cut");
  await until("offline", () => news.states.at(-1) === "offline");
  await publish(world, "news", 2);
  await publish(world, "news", 3);
  await world.tell("shut", { on: false });
  await until("back", () => news.live && news.events.length === 3);
  await publish(world, "news", 4);
  await until("the last", () => news.events.length === 4);
  assert.deepEqual(news.events, [1, 2, 3, 4]); // a node that has just begun may have missed some, and says so as well
  assert.deepEqual(empty.data, ["missed undefined"], "it had no event to resume from");

  const { id } = news.heard.find(({ event }) => event?.data === 2).event;
  const page = hear(world.connect(), "news", { after: id });
  await until("a later visit", () => page.events.length === 2);
  assert.deepEqual(page.events, [3, 4]);
  const stranger = hear(world.connect(), "news", { after: "unknown" });
  await until("told", () => stranger.heard.length === 1);
  assert.deepEqual(stranger.heard[0], { event: undefined, topic: "news", context: ["news"], missed: undefined });
});

test("a topic that is refused says why, and is asked for again with another secret", async (t) => {
  const world = await startWorld(t);
  await world.tell("hide", { id: "news.private", on: true });
  await world.tell("unavailable", { id: "news.later", on: true });
  const sync = world.connect();
  const refused = hear(sync, "news.private");
  const unknown = hear(sync, "elsewhere");
  const malformed = hear(sync, "a..b");
  const later = hear(sync, "news.later");
  const good = hear(sync, "news.good");
  await until("all are answered", () => good.live && [refused, unknown, malformed, later].every(({ states }) => states.length > 1));
  assert.deepEqual(later.states.slice(0, 2), ["connecting", "connecting unavailable"]);
  assert.deepEqual(refused.states, ["connecting", "denied forbidden"]);
  assert.deepEqual(unknown.states, ["connecting", "denied unknown_topic"]);
  assert.deepEqual(malformed.states, ["connecting", "denied bad_topic"]);
  await world.tell("unavailable", { id: "news.later", on: false });
  await until("it is asked for again", () => later.live);
  await world.tell("hide", { id: "news.private", on: false });
  await sync.renew("you");
  await until("granted", () => refused.live);
  await world.tell("hide", { id: "news.private", on: true });
  await world.tell("reconsider", { id: "news.private" });
  await until("withdrawn", () => refused.states.at(-1) === "denied forbidden");
  await publish(world, "news.private", 1);
  await publish(world, "news.good", 2);
  await until("the other", () => good.heard.length === 1);
  assert.deepEqual(refused.data, []);
});

test("a topic that found no place gets one that comes free", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 1 });
  const sync = world.connect();
  const first = hear(sync, "news.a");
  await until("live", () => first.live);
  const second = hear(sync, "news.b");
  await until("refused", () => second.states.at(-1) === "denied too_many_subscriptions");
  first.end();
  await until("it has the place", () => second.live);
});

test("a loop hears, is told what it was too slow for, and ends", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  const other = hear(sync, "news");
  const stop = new AbortController();
  const loop = topics(sync).watch("news", { signal: stop.signal });
  const first = loop.next();
  await until("live", () => other.live);
  await publish(world, "news", 0);
  assert.equal((await first).value.event.data, 0);
  for (let i = 1; i <= 1_030; i += 103) {
    await Promise.all(Array.from({ length: 103 }, (_, k) => publish(world, "news", i + k)));
    await until("they came", () => other.heard.length + (other.heard.find(({ event }) => !event)?.missed ?? 0) >= i + 103);
  }
  const { missed, event } = (await loop.next()).value;
  assert.equal(event, undefined);
  assert.equal(missed, 1_030 - 1_024);
  assert.ok((await loop.next()).value.event);
  const last = (async () => { for await (const _ of loop); })();
  stop.abort();
  await last;
  const closed = topics(sync).watch("news").next();
  sync.close();
  assert.deepEqual(await closed, { value: undefined, done: true });
});

test("tabs share topics: each event once for each tab, each at its own width", async (t) => {
  const world = await startWorld(t);
  const tabs = startTabs(t, world);
  const [one, other] = [await tabs.open(), await tabs.open()];
  const all = hear(one.sync, "news");
  await until("live", () => all.live);
  const exact = hear(other.sync, "news", { exact: true });
  const uk = hear(other.sync, "news.uk");
  await until("live, too", () => exact.live && uk.live);
  await publish(world, "news.uk", 1);
  await topics(one.sync).publish("news", 2);
  await until("both", () => all.heard.length === 2 && exact.heard.length === 1 && uk.heard.length === 1);
  assert.deepEqual(all.data, [1, 2]);
  assert.deepEqual(exact.data, [2]);
  assert.deepEqual(uk.data, [1]);
  await assert.rejects(topics(other.sync).publish("elsewhere", 1), { code: "unknown_topic" });
  uk.end();
  await publish(world, "news.uk", 3);
  await until("the first goes on", () => all.heard.length === 3);
  assert.deepEqual(uk.data, [1]);
  await world.tell("hide", { id: "news.private", on: true });
  const refused = hear(other.sync, "news.private");
  await until("refused", () => refused.states.at(-1) === "denied forbidden");

  await world.tell("shut", { on: true });
  await world.tell("cut");
  await until("offline", () => all.states.at(-1) === "offline" && exact.states.at(-1) === "offline");
  await publish(world, "news", 4);
  await world.tell("shut", { on: false });
  await until("both have what they missed", () => all.events.length === 4 && exact.events.length === 2);
  assert.deepEqual(all.events, [1, 2, 3, 4]);
  assert.deepEqual(exact.events, [2, 4]);
  assert.equal((await world.tell("figures")).Clients, 1);
});

test("keys and topics go on beside each other", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const watcher = follow(sync, "1");
  const news = hear(sync, "news");
  await until("both", () => watcher.n === 1 && news.live);
  await publish(world, "news", 1);
  await world.write("1", 2);
  await until("both have changed", () => watcher.n === 2 && news.heard.length === 1);
  await world.tell("bus", { on: false });
  await until("stale", () => news.states.at(-1) === "stale");
  await world.tell("bus", { on: true });
  await until("told", () => news.live && news.heard.length === 2);
  assert.equal(news.heard[1].event, undefined);
});
