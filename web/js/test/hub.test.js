// Several tabs that share a connection: none of them is the worse for another.

import test from "node:test";
import assert from "node:assert/strict";
import WS from "ws";
import { define, startTabs } from "./locks.js";
import { randomBy } from "./random.js";
import { startScript } from "./script.js";
import { follow, neverBackwards, startWorld, until } from "./world.js";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

for (const order of [["good", "bad"], ["bad", "good"]]) {
  test(`a bad secret is its tab's alone, and shows it nothing: ${order.join(", ")}`, async (t) => {
    const world = await startWorld(t, { verify: true });
    await world.write("1", 1);
    await world.tell("withdraw", { secret: "bad" });
    const tabs = startTabs(t, world);
    const is = {};
    for (const secret of order) {
      is[secret] = await tabs.open({ secret });
      is[secret].watcher = follow(is[secret].sync, "1");
      if (secret === "good") await until("the row", () => is.good.watcher.n === 1);
    }
    await until("denied", () => is.bad.sync.state === "denied");
    assert.equal(is.bad.sync.error.code, "unauthenticated");
    await until("the row", () => is.good.watcher.n === 1);
    assert.deepEqual(is.good.states, ["live"]);

    await world.tell("cut");
    await until("offline", () => is.good.states.length > 1);
    await world.write("1", 2);
    await until("the good one is back", () => is.good.watcher.n === 2 && is.good.watcher.last.state === "live");
    assert.ok(is.bad.watcher.seen.every((update) => update.rows === undefined), JSON.stringify(is.bad.watcher.seen));
    assert.deepEqual(is.bad.states, ["denied"]);

    await is.bad.sync.renew("good");
    await until("the other is well with a good one", () => is.bad.watcher.n === 2);
    assert.equal((await world.tell("figures")).Clients, 1);
  });
}

test("a secret that is refused later leaves all tabs with the one before, also in the next connection", async (t) => {
  const world = await startWorld(t, { verify: true });
  await world.write("1", 1);
  await world.tell("withdraw", { secret: "bad" });
  const tabs = startTabs(t, world);
  const errors = [];
  const [one, other] = [await tabs.open({ onError: ({ code }) => errors.push(code) }), await tabs.open()];
  const watchers = [one, other].map(({ sync }) => follow(sync, "1"));
  await until("the row", () => watchers.every((watcher) => watcher.n === 1));
  await assert.rejects(one.sync.renew("bad"), { code: "unauthenticated" });
  assert.deepEqual(errors, ["unauthenticated"]);
  await world.write("1", 2);
  await until("the change", () => watchers.every((watcher) => watcher.n === 2));
  await world.tell("cut");
  await until("the other is back", () => other.states.length === 3 && watchers[1].last.state === "live");
  assert.deepEqual(other.states, ["live", "offline", "live"]);
});

// The kind of a bad secret: whatever a node closes a connection for.
test("what one tab says that is too large is its own fault", async (t) => {
  const world = await startWorld(t, { subscribeRate: 100_000 });
  await world.write("1", 1);
  const tabs = startTabs(t, world);
  const [good, bad] = [await tabs.open(), await tabs.open({ maxMessageBytes: 1e6 })];
  const watcher = follow(good.sync, "1");
  await until("live", () => watcher.n === 1 && bad.sync.state === "live");
  bad.sync.send({ text: "x".repeat(40_000) });
  await until("denied", () => bad.sync.state === "denied");
  assert.equal(bad.sync.error.closeCode, 1009);
  await until("the other comes back", () => good.states.length === 3 && watcher.last.state === "live");
  assert.deepEqual(good.states, ["live", "offline", "live"]);
});

test("a tab that leads and is not looked at vouches for no node", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const tabs = startTabs(t, world);
  const hidden = await tabs.open({ timeout: 3_600_000 }); // its timers ring late
  const shown = await tabs.open({ timeout: 1_000 });
  const watcher = follow(shown.sync, "1");
  await until("the row", () => watcher.n === 1 && hidden.sync.state === "live");
  await world.tell("abandon"); // the connection leads nowhere; another one would
  await world.write("1", 2);
  const asked = world.socket.sent.length;
  shown.happens("online");
  await until("the node is asked", () => world.sockets[0].sent.length > asked);
  await until("the change", () => watcher.n === 2 && watcher.last.state === "live");
  assert.deepEqual(shown.states, ["live", "offline", "live"]);
  await until("the other one is back, too", () => hidden.states.length === 3);
  neverBackwards(watcher);
  assert.equal(world.sockets.length, 2);
});

// Until the node is asked; a tab that comes now is the same case.
test("a tab that comes to a connection that leads nowhere is not shown what was known", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const tabs = startTabs(t, world);
  const hidden = await tabs.open({ timeout: 3_600_000 });
  const old = follow(hidden.sync, "1");
  await until("the row", () => old.n === 1);
  await world.tell("abandon");
  await world.write("1", 2);
  const shown = await tabs.open({ timeout: 1_000 });
  const watcher = follow(shown.sync, "1");
  await until("the change", () => watcher.n === 2 && old.n === 2);
  assert.ok(watcher.seen.every(({ row }) => row?.n !== 1), JSON.stringify(watcher.seen));
});

test("a tab that changes its mind about its secret does not cost the others their connection", async (t) => {
  const script = await startScript(t, ({ action, body }) => action === "secret" && body === "slow");
  const tabs = startTabs(t, { url: script.url, WebSocket: WS, connect: script.connect });
  const one = await tabs.open();
  await until("live", () => one.sync.state === "live");
  const at = performance.now();
  t.mock.method(performance, "now", () => at); // it does so at once, however long that takes
  const other = await tabs.open({ secret: "slow" });
  await until("it is said", () => script.asked("secret").length === 2);
  await other.sync.renew("good");
  assert.equal(other.sync.state, "live");
  assert.deepEqual([one.states, script.connections], [["live"], 1]);
});

test("a tab asks once at a time to lead, and not in its sleep", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const tabs = startTabs(t, world);
  const leads = await tabs.open();
  const sleeps = await tabs.open();
  const last = await tabs.open();
  const watcher = follow(last.sync, "1");
  await until("the row", () => watcher.n === 1);
  const queue = () => tabs.locks.queue(tabs.room);
  assert.equal(queue(), 2);
  for (const [type, waiting] of [["freeze", 1], ["resume", 2], ["freeze", 1], ["freeze", 1], ["pageshow", 2], ["pageshow", 2], ["pagehide", 1], ["freeze", 1]]) {
    sleeps.happens(type);
    assert.equal(queue(), waiting, type);
  }
  leads.happens("freeze");
  await until("another one leads", () => world.sockets.length === 2 && watcher.last.state === "live");
  assert.equal(queue(), 0);
  sleeps.happens("resume");
  leads.happens("resume");
  await until("they wait again", () => queue() === 2);
  assert.deepEqual(last.states, ["live", "offline", "live"]);
});

test("who steals the lead does not wait for it as well, and who lost it asks again", async (t) => {
  const world = await startWorld(t);
  const tabs = startTabs(t, world, { steal: true });
  await tabs.open();
  await tabs.locks.request(tabs.room, { steal: true }, () => {}); // and gives it back at once
  await until("the first leads again", () => tabs.locks.held.has(tabs.room));
  assert.equal(tabs.locks.queue(tabs.room), 0);
  tabs.locks.request(tabs.room, { steal: true }, () => new Promise(() => {})).catch(() => {}); // a tab that does not answer
  const shown = await tabs.open();
  await until("it has taken over", () => shown.sync.state === "live");
  await until("the first waits", () => tabs.locks.queue(tabs.room) === 1);
});

test("a place that another tab gives up is given", async (t) => {
  const world = await startWorld(t, { maxSubscriptions: 3 });
  await world.tell("store", { ids: ["1", "2", "3", "4", "5", "6"], row: { n: 1 } });
  const tabs = startTabs(t, world);
  const [one, other] = [await tabs.open({ linger: 0 }), await tabs.open({ linger: 0 })];
  const has = ["1", "2", "3"].map((id) => follow(one.sync, id));
  await until("the rows", () => has.every((watcher) => watcher.n === 1));
  const wants = ["4", "5", "6"].map((id) => follow(other.sync, id));
  const live = () => wants.filter((watcher) => watcher.last.state === "live").length;
  await until("there is no place", () => wants.every((watcher) => watcher.last?.error?.code === "too_many_subscriptions"));
  has[0].end();
  await until("there is one", () => live() === 1);
  await world.tell("hide", { id: "2", on: true }); // the node takes the second away
  await world.tell("notify", { id: "2" });
  await until("there are two", () => live() === 2);
  assert.equal(has[1].last.error.code, "forbidden");
  one.sync.close();
  await until("there are three", () => live() === 3);
  assert.equal((await world.tell("figures")).Subscriptions, 3);
});

test("the wait that a node asks for is each tab's, also when another one leads", async (t) => {
  const script = await startScript(t);
  const began = [];
  class WebSocket extends WS {
    constructor(...args) {
      super(...args);
      began.push(performance.now());
    }
  }
  const tabs = startTabs(t, { url: script.url, WebSocket, connect: script.connect });
  const [first, second] = [await tabs.open(), await tabs.open()];
  await until("live", () => first.sync.state === "live" && second.sync.state === "live");
  const closed = performance.now();
  script.close(1012, "restarting; retry in 1500 ms");
  await until("offline", () => first.sync.state === "offline" && second.sync.state === "offline");
  first.happens("freeze");
  await until("back", () => second.sync.state === "live");
  assert.equal(began.length, 2);
  assert.ok(began[1] - closed >= 1_500, `after ${began[1] - closed} ms`);
});

test("a tab's own options count: how long it waits, for an answer and to connect again", async (t) => {
  const script = await startScript(t, () => true); // no answer at all
  const waits = [];
  const real = globalThis.setTimeout;
  t.mock.method(globalThis, "setTimeout", (f, ms, ...args) => {
    const { stack } = new Error();
    if (/web\/js\/\w+\.js:/.test(stack) && !stack.includes("/node_modules/ws/")) waits.push(ms);
    return real(f, ms, ...args);
  });
  const tabs = startTabs(t, { url: script.url, WebSocket: WS, connect: script.connect });
  await tabs.open({ timeout: 200, retry: { min: 20, max: 40 } });
  await until("the third connection", () => script.connections >= 3);
  waits.forEach((ms) => assert.ok(ms <= 40 || ms === 200, `a wait of ${ms} ms`));
});

test("tabs that ask for a key at the same time are answered alike, and the node is asked once", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const tabs = startTabs(t, world);
  const open = [await tabs.open(), await tabs.open(), await tabs.open()];
  await until("live", () => open.every(({ sync }) => sync.state === "live"));
  const before = world.socket.sent.length;
  const good = open.map(({ sync }) => follow(sync, "1"));
  const bad = open.map(({ sync }) => follow(sync, "1", "nothing"));
  await until("all are answered", () => good.every(({ n }) => n === 1) && bad.every(({ last }) => last?.error?.code === "unknown_entity"));
  const asked = world.socket.sent.slice(before).filter((text) => text.includes('"subscribe"') && text.includes('"items"'));
  assert.equal(asked.length, 1);
  for (const { states } of [...good, ...bad]) assert.equal(states.length, 1);
  const gone = follow(open[0].sync, "2");
  await Promise.resolve(); // until it is said
  open[0].sync.close(); // before it is answered
  const stays = follow(open[1].sync, "2");
  await until("the other one is answered", () => stays.last?.state === "live");
  assert.equal(gone.last, undefined);
  await world.write("2", 5);
  await until("and hears of changes", () => stays.n === 5);
});

// What is sent and delivered over a BroadcastChannel while something happens.
function countMessages(t) {
  const count = { sent: 0, delivered: 0 };
  define(t, {
    BroadcastChannel: class extends BroadcastChannel {
      postMessage(message) {
        count.sent++;
        super.postMessage(message);
      }
      set onmessage(f) {
        super.onmessage = (event) => {
          count.delivered++;
          f(event);
        };
      }
    },
  });
  return count;
}

// Counted, not timed: what is delivered to all tabs together, beside what as many
// clients with connections of their own are sent at the same time.
test("twelve tabs are sent a change in one message, and no more than twelve connections are", async (t) => {
  const world = await startWorld(t, { subscribeRate: 100_000 });
  const ids = Array.from({ length: 50 }, (_, i) => String(i));
  await world.tell("store", { ids, row: { n: 0 } });
  const count = countMessages(t);
  const tabs = startTabs(t, world);
  const clients = [];
  for (let i = 0; i < 12; i++) clients.push((await tabs.open()).sync, world.connect());
  const watchers = clients.flatMap((sync) => ids.map((id) => follow(sync, id)));
  await until("the rows", () => watchers.every((watcher) => watcher.n === 0));
  const shared = world.sockets.find(({ sent }) => sent.length > 2); // a request for each tab's
  const alone = () => world.sockets.filter((socket) => socket !== shared).reduce((n, { received }) => n + received.length, 0);
  const more = (before) => ({ sent: count.sent - before.sent, delivered: count.delivered - before.delivered, alone: alone() - before.alone });
  const begin = more({ sent: 0, delivered: 0, alone: 0 });
  t.diagnostic(`to begin with: ${JSON.stringify(begin)}`);
  assert.equal(world.sockets.length, 13);
  assert.ok(begin.delivered < 3 * begin.alone);

  const before = { ...count, alone: alone() };
  for (let n = 1; n <= 5; n++) {
    for (const id of ids) await world.write(id, n, { node: n });
    await until("the change", () => watchers.every((watcher) => watcher.n === n));
  }
  const changes = more(before);
  t.diagnostic(`${5 * ids.length} changes: ${JSON.stringify(changes)}`);
  assert.ok(changes.sent < 1.1 * 5 * ids.length);
  assert.ok(changes.delivered < 1.1 * changes.alone);
});

test("tabs that come, go, sleep and lead: under random faults all end right, and nothing goes back", async (t) => {
  const world = await startWorld(t, { verify: true, subscribeRate: 100_000, maxSubscriptions: 6 });
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31)); // SEED repeats a run, but for what is a matter of time
  t.diagnostic(`seed ${seed}`);
  const random = randomBy(seed);
  const ids = Array.from({ length: 8 }, (_, i) => String(i));
  const written = Object.fromEntries(ids.map((id) => [id, 0]));
  await world.tell("store", { ids, row: { n: 0 } });
  await world.tell("withdraw", { secret: "bad" });
  const tabs = startTabs(t, world);
  const all = [];
  const open = [];
  const asleep = new Set();
  const hidden = new Set();
  const join = async () => {
    const tab = await tabs.open({ linger: random(30), timeout: 1_000, secret: random(2) ? "me" : "I", onError: () => {} });
    open.push({ ...tab, watching: new Map() });
  };
  const toggle = ({ sync, watching }, id) => {
    const watcher = watching.get(id);
    if (watcher) {
      watcher.end();
      watching.delete(id);
    } else {
      watching.set(id, follow(sync, id));
      all.push(watching.get(id));
    }
  };
  const steps = {
    join: () => open.length < 6 ? join() : undefined,
    leave() {
      if (open.length > 1) open.splice(random(open.length), 1)[0].sync.close();
    },
    sleep() {
      const tab = open[random(open.length)];
      const woke = asleep.delete(tab);
      if (!woke) asleep.add(tab);
      tab.happens(woke ? "resume" : "freeze");
    },
    steal: () => void tabs.locks.request(tabs.room, { steal: true }, () => {}).catch(() => {}),
    toggle: () => toggle(open[random(open.length)], ids[random(8)]),
    renew: () => void open[random(open.length)].sync.renew(random(2) ? "me" : "I"),
    mistake() { // a secret that is refused, and the right one after it
      const { sync } = open[random(open.length)];
      sync.renew("bad");
      setTimeout(() => sync.renew("me"), random(20));
    },
    async hide() { // one of those that need not be shown in the end
      const id = ids[4 + random(4)];
      if (!hidden.delete(id)) hidden.add(id);
      await world.tell("hide", { id, on: hidden.has(id) });
      await world.tell("notify", { id });
    },
    cut: () => world.tell("cut"),
    abandon: () => world.tell("abandon"),
    slow: () => world.tell("slow", { ms: random(20) }),
    pause: () => pause(random(30)),
    write() {
      const id = ids[random(8)];
      return world.write(id, ++written[id], { node: random(2) });
    },
  };
  const acts = ["join", "leave", "sleep", "steal", "renew", "mistake", "hide", "cut", "abandon", "slow", "pause", "pause", "toggle", "toggle", "toggle", "toggle", "write", "write", "write", "write", "write"];
  await join();
  for (let step = 0; step < 400; step++) await steps[acts[random(acts.length)]]();

  await world.tell("slow", { ms: 0 });
  await pause(30); // until the last mistake is made good
  asleep.forEach((tab) => tab.happens("resume"));
  open.forEach(({ happens }) => happens("online"));
  for (const { watching } of open) {
    for (const id of ids.slice(4)) watching.get(id)?.end();
    for (const id of ids.slice(0, 4)) watching.has(id) || toggle(open.find((tab) => tab.watching === watching), id);
  }
  const state = () => JSON.stringify(open.map(({ sync, watching }) => [sync.state, ids.slice(0, 4).map((id) => watching.get(id).last)]));
  await until(() => `all end right (seed ${seed}): ${state()}`, () => open.every(({ watching }) => ids.slice(0, 4).every((id) =>
    watching.get(id).n === written[id] && watching.get(id).last.state === "live")));
  all.forEach(neverBackwards);
  const { Clients, Subscriptions } = await world.tell("figures");
  t.diagnostic(`${open.length} tabs, ${world.sockets.length} connections, of which ${Clients} is left with ${Subscriptions} subscriptions`);
});
