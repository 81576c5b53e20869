// Callbacks that act on the client: they find nothing half done.

import test from "node:test";
import assert from "node:assert/strict";
import { follow, startWorld, until } from "./world.js";
import { rows, startScript } from "./script.js";

for (const where of ["onState", "a watcher", "onError"]) {
  test(`renewing in ${where} is answered by the new secret, and all hear the same`, async (t) => {
    const script = await startScript(t, ({ action, ref, body }, { say }) => {
      if (action === "secret" && body === "bad") {
        say({ action: "error", ref, body: { code: "unauthenticated", message: "no" } });
        return true;
      }
      if (action === "subscribe") rows(body).forEach((row) => setTimeout(say, 0, row));
      return false;
    });
    let renewed;
    const heal = () => { renewed ??= sync.renew("good"); };
    let asked = 0;
    const sync = script.connect({
      secret: where === "onError" ? async () => { if (asked++ === 0) throw new Error("no token"); return "bad"; } : "bad",
      onError: where === "onError" ? heal : undefined,
    });
    const states = [[], []];
    sync.onState((state) => states[0].push(state));
    if (where === "onState") sync.onState((state) => { if (state === "denied") heal(); });
    if (where === "a watcher") sync.subscribe("items", "1", ({ state }) => { if (state === "denied") heal(); });
    sync.onState((state) => states[1].push(state));
    const watcher = follow(sync, "2");
    await until("live", () => sync.state === "live" && watcher.last?.state === "live");
    await renewed;
    assert.deepEqual(states[1], states[0]);
    if (where === "onError") {
      assert.deepEqual(states[0], ["offline", "live"]);
      assert.equal(script.asked("secret").length, 1, "it is not lost again for the old error");
    } else {
      assert.deepEqual(states[0], ["denied", "connecting", "live"]);
      assert.deepEqual(watcher.states, ["denied", "connecting", "live"]);
    }
  });
}

test("each renewal is settled by the answer to its own request", async (t) => {
  const held = [];
  const script = await startScript(t, ({ action, ref, body }) => action === "secret" && body !== "me" && held.push({ ref, body }));
  const errors = [];
  const sync = script.connect({ onError: ({ code }) => errors.push(code) });
  await until("live", () => sync.state === "live");
  const settled = [];
  const note = (name, promise) => promise.then(() => settled.push(`${name} taken`), ({ code }) => settled.push(`${name} ${code}`));
  note("first", sync.renew("bad"));
  await until("it is said", () => held.length === 1);
  note("second", sync.renew("good"));
  await until("it is said, too", () => held.length === 2);
  script.say({ action: "error", ref: held[0].ref, body: { code: "unauthenticated", message: "no" } });
  await until("the first is settled", () => settled.length > 0);
  assert.deepEqual(settled, ["first unauthenticated"]);
  script.say({ action: "ack", ref: held[1].ref });
  await until("the second is settled", () => settled.length > 1);
  assert.deepEqual([settled[1], errors], ["second taken", ["unauthenticated"]]);
});

test("a renewal that a later one replaced goes by the later one, also where its function fails then", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  await until("live", () => sync.state === "live");
  let fail;
  const renewals = [sync.renew(() => new Promise((_, reject) => { fail = reject; })), sync.renew("good")];
  fail(new Error("too late to matter"));
  await Promise.all(renewals);
});

test("a renewal whose connection broke is answered over the next one", async (t) => {
  let held = 0;
  const script = await startScript(t, ({ action, body }, { close }) => {
    if (action !== "secret" || body === "me" || held++ > 0) return false;
    close(4410);
    return true;
  });
  const sync = script.connect();
  await until("live", () => sync.state === "live");
  await sync.renew("good");
  assert.equal(script.connections, 2);
});

test("a loop that is ended while it waits ends, and lets its key go", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  for (const end of [(loop) => loop.return(), (loop) => assert.rejects(loop.throw(new Error("enough")), /enough/)]) {
    const loop = sync.watch("items", "1");
    assert.equal((await loop.next()).value.row.n, 1);
    const waits = loop.next();
    await end(loop);
    assert.deepEqual(await waits, { value: undefined, done: true });
    await until("nobody watches", () => sync.get("items", "1") === undefined);
  }
  const unused = sync.watch("items", "1");
  await unused.return();
  assert.equal(sync.get("items", "1"), undefined);
});
