import test from "node:test";
import assert from "node:assert/strict";
import { once } from "node:events";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { randomBy } from "./random.js";
import { actions, follow, neverBackwards, startWorld, until } from "./world.js";

test("a reconnect without changes costs nothing and never flickers", async (t) => {
  const world = await startWorld(t);
  await world.tell("store", { ids: ["1", "2", "3"], row: { n: 1 } });
  const sync = world.connect();
  const states = [];
  sync.onState((state) => states.push(state));
  const watchers = ["1", "2", "3"].map((id) => follow(sync, id));
  await until("the rows", () => watchers.every((w) => w.n === 1));
  const [{ rows }] = watchers[0].seen;

  await world.tell("cut");
  await until("back", () => world.sockets.length === 2 && watchers.every((w) => w.last.state === "live"));
  assert.deepEqual(states, ["live", "offline", "live"]);
  for (const watcher of watchers) {
    assert.deepEqual(watcher.states, ["live", "offline", "stale", "live"]);
    assert.ok(watcher.seen.every((u) => u.row?.n === 1), "the row stays shown");
  }
  assert.ok(watchers[0].seen.every((u) => u.rows === rows), "it is even the same object");
  assert.deepEqual(actions(world.socket.sent), ["secret", "subscribe"]);
  assert.deepEqual(actions(world.socket.received).sort(), ["ack", "ack", "current", "current", "current"]);
});

test("what was missed while offline is there after it", async (t) => {
  const world = await startWorld(t);
  for (const id of ["1", "2", "3"]) await world.write(id, 0);
  const sync = world.connect();
  const [changed, same, deleted] = ["1", "2", "3"].map((id) => follow(sync, id));
  await until("the rows", () => changed.n === 0 && same.n === 0 && deleted.n === 0);
  await world.tell("shut", { on: true });
  await world.tell("cut");
  await until("offline", () => sync.state === "offline");
  for (let n = 1; n <= 100; n++) await world.write("1", n, { node: n });
  await world.tell("delete", { id: "3" });
  assert.equal(changed.n, 0);
  assert.equal(changed.last.state, "offline");
  const late = follow(sync, "4");
  await until("one who comes now is told", () => late.last?.state === "offline");
  await world.tell("shut", { on: false });
  await until("the newest", () => changed.n === 100 && changed.last.state === "live");
  await until("the others", () => same.last.state === "live" && deleted.last.rows.length === 0);
  await until("the late one", () => late.last.state === "live");
  assert.deepEqual(same.states, ["live", "offline", "stale", "live"]);
  assert.deepEqual(changed.seen.map((u) => u.row.n).filter((n, i, all) => n !== all[i - 1]), [0, 100]);
});

test("a node that restarts hands its clients on, when it asks them to", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  const [first] = world.sockets;
  await world.tell("drain"); // both, whichever it was: a third takes over
  await world.tell("start");
  await world.tell("drain");
  await until("sent away", () => first.ended);
  assert.equal(first.ended.code, 1012);
  const hint = +/retry in (\d+) ms/.exec(first.ended.reason)[1];
  await until("the row on another node", () => sync.state === "live" && watcher.last.state === "live");
  assert.ok(world.sockets[1].began - first.ended.at >= hint - 2, "not earlier than it was asked to");
  await world.write("1", 2);
  await until("the change", () => watcher.n === 2);
});

for (const [code, name] of [[4500, "closed"], [4501, "unauthenticated"], [4503, "revoked"], [4599, "closed"]]) {
  test(`close code ${code} means stop`, async (t) => {
    const world = await startWorld(t);
    await world.write("1", 1);
    const sync = world.connect();
    const watcher = follow(sync, "1");
    await until("the row", () => watcher.n === 1);
    sync.send({ let: "the application know me" });
    await until("it does", async () => (await world.tell("heard")).length === 1);
    await world.tell("dismiss", { code, text: "go" });
    await stopped(world, sync, watcher, code, name);
    await assert.rejects(Promise.race([sync.renew("me"), Promise.reject(new Error("later"))]), /later/);
    await until("it may try again when it is told to", () => watcher.n === 1 && sync.state === "live");
  });
}

// What only a broken client does.
for (const [code, sin] of [
  [1002, (socket) => socket._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]))], // opcode 3 is none
  [1003, (socket) => socket._sender.send(Buffer.from("x"), { fin: true, binary: true, mask: true, compress: false })],
  [1007, (socket) => socket._sender.send(Buffer.from([0xff]), { fin: true, binary: false, mask: true, compress: false })],
  [1009, (socket) => socket.send(" ".repeat(40_000))],
]) {
  test(`close code ${code} means stop`, async (t) => {
    const world = await startWorld(t);
    await world.write("1", 1);
    const sync = world.connect();
    const watcher = follow(sync, "1");
    await until("the row", () => watcher.n === 1);
    sin(world.socket);
    await stopped(world, sync, watcher, code, "closed");
  });
}

async function stopped(world, sync, watcher, code, name) {
  await until("denied", () => sync.state === "denied");
  assert.equal(sync.error.code, name);
  assert.equal(sync.error.closeCode, code);
  assert.equal(watcher.last.state, "denied");
  assert.equal(watcher.last.rows, undefined);
  assert.equal(watcher.last.error.code, name);
  const late = follow(sync, "7");
  await until("who comes now is told, too", () => late.last?.error?.code === name);
  await new Promise((resolve) => setTimeout(resolve, 700)); // longer than any wait of these tests
  assert.equal(world.sockets.length, 1, "and stays away");
}

for (const code of [1000, 4000, 4401, 4408, 4410, 4499, 4600]) {
  test(`close code ${code} means come back`, async (t) => {
    const world = await startWorld(t);
    await world.write("1", 1);
    const sync = world.connect();
    const watcher = follow(sync, "1");
    await until("the row", () => watcher.n === 1);
    sync.send({ let: "the application know me" });
    await until("it does", async () => (await world.tell("heard")).length === 1);
    await world.tell("dismiss", { code, text: "go" });
    await until("sent away", () => world.sockets[0].ended);
    assert.equal(world.sockets[0].ended.code, code);
    await until("back", () => world.sockets.length === 2 && watcher.last.state === "live");
    assert.equal(watcher.n, 1);
  });
}

test("waits grow, with full jitter, up to a limit, and begin anew after a good connection", async (t) => {
  const world = await startWorld(t);
  const asked = [];
  const real = globalThis.setTimeout;
  t.mock.method(globalThis, "setTimeout", (f, ms, ...args) => {
    if (String(f).includes("#open")) { // the wait to connect again
      asked.push(ms);
      ms = 1;
    }
    return real(f, ms, ...args);
  });
  let random = 1;
  t.mock.method(Math, "random", () => random);
  const clock = setClocks(t);
  await world.tell("shut", { on: true });
  const sync = world.connect({ retry: undefined });
  await until("ten failed", () => asked.length >= 10);
  assert.deepEqual(asked.slice(0, 10), [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000]);
  random = 0.25;
  await until("it goes by chance", () => asked.includes(7500));

  await world.tell("shut", { on: false });
  await until("live", () => sync.state === "live");
  const before = asked.length;
  await world.tell("cut");
  await until("live again", () => world.sockets.length > before && sync.state === "live" && asked.length > before);
  assert.equal(asked[before], 7500, "a connection that lasts a moment is no success");
  clock.pass(6_000);
  await world.tell("cut");
  await until("it is lost", () => asked.length > before + 1);
  assert.equal(asked[before + 1], 125);
  await until("live once more", () => sync.state === "live");
  clock.wall += 3_600_000;
  await world.tell("cut");
  await until("it is lost once more", () => asked.length > before + 2);
  assert.equal(asked[before + 2], 250, "a clock that is set makes no connection older");
  await until("live at last", () => sync.state === "live");
  clock.pass(6_000);
  clock.wall -= 7_200_000;
  await world.tell("cut");
  await until("it is lost at last", () => asked.length > before + 3);
  assert.equal(asked[before + 3], 125, "nor a younger one");
});

test("a connection that leads nowhere is noticed by asking", async (t) => {
  const { world, sync, watcher, clock } = await timed(t);
  await world.tell("freeze", { on: true });
  const asked = world.socket.sent.length;
  clock.step = 5_000;
  await until("given up", () => sync.state === "offline");
  clock.step = 0;
  assert.deepEqual(actions(world.sockets[0].sent.slice(asked)), ["unsubscribe"]);
  await world.tell("cut");
  await world.tell("freeze", { on: false });
  await until("back", () => watcher.last.state === "live");
});

test("a silent node is asked now and then, and stays connected when it answers", async (t) => {
  const { world, sync, watcher, clock } = await timed(t, { timeout: 10_000 });
  const asked = world.socket.sent.length;
  const begin = clock.monotonic;
  clock.stands = () => world.socket.sent.length > actions(world.socket.received).filter((a) => a === "ack").length;
  clock.step = 5_000;
  await until("asked a few times", () => world.socket.sent.length >= asked + 4);
  clock.step = 0;
  const took = clock.monotonic - begin;
  assert.ok(took >= 4 * 25_000, `asked four times in ${took} ms`);
  assert.equal(sync.state, "live");
  assert.equal(world.sockets.length, 1);
  assert.deepEqual(watcher.states, ["live"]);
});

test("a clock that is set by seconds does not have the client wait longer for a silent node, nor less", async (t) => {
  const { world, clock } = await timed(t);
  const asked = world.socket.sent.length;
  clock.drift = 14_000; // less than what looks like sleep
  await until("it has looked often", () => clock.looks > 20);
  clock.drift = 0;
  assert.equal(world.socket.sent.length, asked);
  await world.tell("freeze", { on: true });
  clock.pass(20_000);
  clock.wall -= 34_000;
  clock.pass(6_000);
  await until("it is asked", () => world.socket.sent.length > asked);
  await world.tell("cut");
  await world.tell("freeze", { on: false });
});

test("a laptop that wakes asks whether the node is there, or connects at once", async (t) => {
  const { world, sync, watcher, clock } = await timed(t, { retry: { min: 600_000, max: 600_000 } });
  const asked = world.socket.sent.length;
  clock.wall += 3_600_000; // the other clock stands still in a machine that sleeps
  await until("asked", () => world.socket.sent.length > asked);
  assert.equal(sync.state, "live");

  let random = 1;
  t.mock.method(Math, "random", () => random);
  await world.tell("cut");
  await until("waiting, for ten minutes", () => sync.state === "offline");
  random = 0.0001;
  clock.wall += 3_600_000;
  await until("back", () => watcher.last.state === "live");
});

// Clocks that the test sets: the wall's, and the one that nobody sets.
function setClocks(t) {
  const clock = {
    wall: 0,
    monotonic: 0,
    pass(ms) {
      clock.wall += ms;
      clock.monotonic += ms;
    },
  };
  const now = Date.now;
  t.mock.method(Date, "now", () => now() + clock.wall);
  const elapsed = performance.now.bind(performance);
  t.mock.method(performance, "now", () => elapsed() + clock.monotonic);
  return clock;
}

// A live client whose clocks the test sets, which looks at them often.
async function timed(t, options = {}) {
  const world = await startWorld(t);
  await world.write("1", 1);
  // step: how much later it is at each look; stands: whether it is no later for now;
  // drift: how much the wall's clock is set at each look
  const clock = Object.assign(setClocks(t), { step: 0, stands: () => false, drift: 0, looks: 0 });
  const every = globalThis.setInterval;
  t.mock.method(globalThis, "setInterval", (f) => every(() => {
    if (!clock.stands()) clock.pass(clock.step);
    clock.wall += clock.drift;
    clock.looks++;
    f();
  }, 20));
  const sync = world.connect({ timeout: 3_000, ...options });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  return { world, sync, watcher, clock };
}

test("events of the page: offline, online, hidden, shown, put away, taken out", async (t) => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.document = { hidden: false };
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.document;
  });
  const happens = (type, more = {}) => page.dispatchEvent(Object.assign(new Event(type), more));
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ timeout: 5_000, retry: { min: 60_000, max: 60_000 } });
  const random = t.mock.method(Math, "random", () => 1);
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  const said = () => world.socket.sent.length;

  // A hint is a reason to ask.
  for (const type of ["offline", "online", "visibilitychange"]) {
    const before = said();
    happens(type);
    assert.equal(said(), before + 1, type);
    await until("the answer", () => JSON.parse(world.socket.received.at(-1)).ref === JSON.parse(world.socket.sent.at(-1)).ref);
  }
  globalThis.document.hidden = true;
  const before = said();
  happens("visibilitychange");
  assert.equal(said(), before, "a page that is hidden is in no hurry");
  globalThis.document.hidden = false;

  // Offline, and no answer.
  await world.tell("freeze", { on: true });
  happens("offline");
  await until("offline", () => sync.state === "offline");
  await world.tell("cut");
  await world.tell("freeze", { on: false });
  random.mock.restore();
  t.mock.method(Math, "random", () => 0);
  happens("online"); // or it would have waited for a minute
  await until("back", () => watcher.last.state === "live");

  // The back-forward cache.
  const count = world.sockets.length;
  happens("pagehide", { persisted: false });
  assert.equal(sync.state, "live", "a page that goes for good needs nothing");
  happens("pagehide", { persisted: true });
  assert.equal(sync.state, "offline");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(world.sockets.length, count, "it does not come back by itself");
  happens("pageshow", { persisted: true });
  await until("back again", () => watcher.last.state === "live");

  sync.close();
  happens("online");
  happens("pageshow", { persisted: true });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(world.sockets.length, count + 1);
});

test("a node that cannot vouch for its rows says so, and when it can again", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  await world.tell("bus", { on: false });
  await until("stale", () => sync.state === "stale" && watcher.last.state === "stale");
  assert.equal(watcher.n, 1);
  await world.tell("bus", { on: true });
  await until("fresh", () => sync.state === "live" && watcher.last.state === "live");
});

test("closing leaves nothing behind", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const program = spawn(process.execPath, [fileURLToPath(new URL("leaves.js", import.meta.url)), world.url], { stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  program.stdout.setEncoding("utf8").on("data", (text) => { out += text; });
  const [code] = await once(program, "exit");
  assert.equal(code, 0);
  assert.equal(out, "live []\nwaiting []\nconnecting []\nlingering []\nunavailable []\n");
});

test("under random faults values never go backwards and end right", async (t) => {
  const world = await startWorld(t, { subscribeRate: 100_000 });
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31)); // SEED repeats a run, but for what is a matter of time
  t.diagnostic(`seed ${seed}`);
  const random = randomBy(seed);
  const ids = Array.from({ length: 8 }, (_, i) => String(i));
  const written = Object.fromEntries(ids.map((id) => [id, 0]));
  for (const id of ids) await world.write(id, 0);
  const clients = [world.connect({ linger: 0 }), world.connect({ linger: 30 })];
  const all = [];
  const watching = new Map();
  const toggle = (client, id) => {
    const name = `${client} ${id}`;
    if (watching.has(name)) {
      watching.get(name).end();
      watching.delete(name);
      return;
    }
    const watcher = follow(clients[client], id);
    watching.set(name, watcher);
    all.push(watcher);
  };
  for (const id of ids) clients.forEach((_, i) => toggle(i, id));
  for (let step = 0; step < 400; step++) {
    switch (random(12)) {
      case 0: await world.tell("cut"); break;
      case 1: await world.tell("slow", { ms: random(20) }); break;
      case 2: await world.tell("freeze", { on: true }); setTimeout(() => world.tell("freeze", { on: false }), random(60)); break;
      case 3: case 4: toggle(random(2), ids[random(8)]); break;
      case 5: await world.tell("start"); await world.tell("drain"); break;
      case 6: clients[random(2)].renew("me"); break;
      case 7: await new Promise((resolve) => setTimeout(resolve, random(30))); break;
      default: {
        const id = ids[random(8)];
        await world.write(id, ++written[id], { node: random(2) });
      }
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 60));
  await world.tell("freeze", { on: false });
  for (const id of ids) clients.forEach((_, i) => watching.has(`${i} ${id}`) || toggle(i, id));
  for (const [name, watcher] of watching) {
    const id = name.split(" ")[1];
    await until(() => `${name} ends as ${written[id]} (seed ${seed}): ${JSON.stringify(watcher.last)}, ${clients.map((c) => c.state)}`,
      () => watcher.n === written[id] && watcher.last?.state === "live");
  }
  all.forEach(neverBackwards);
});
