import test from "node:test";
import assert from "node:assert/strict";
import { actions, follow, startWorld, until } from "./world.js";

const secrets = (socket) => (socket?.sent ?? []).map((text) => JSON.parse(text)).filter((m) => m.action === "secret").map((m) => m.body);

/** How long a secret lasts in which a session can begin ten times here, and not less than enough. */
async function lifetime(world, enough) {
  const begun = performance.now();
  const sync = world.connect();
  await until("live", () => sync.state === "live");
  sync.close();
  world.sockets.length = 0;
  return Math.ceil(Math.max(enough, 10 * (performance.now() - begun)));
}

test("a function is asked for the secret at every connection", async (t) => {
  const world = await startWorld(t, { verify: true });
  let n = 0;
  const sync = world.connect({ secret: async () => `token ${++n}` });
  await until("live", () => sync.state === "live");
  await world.tell("cut");
  await until("live again", () => world.sockets.length === 2 && sync.state === "live");
  assert.deepEqual(world.sockets.map(secrets), [["token 1"], ["token 2"]]);
});

test("a secret is renewed in place before it expires", async (t) => {
  const world = await startWorld(t, { verify: true });
  await world.write("1", 1);
  const ms = await lifetime(world, 5_000);
  await world.tell("lifetime", { secret: "token 1", ms });
  let n = 0;
  const sync = world.connect({ secret: () => `token ${++n}` });
  const states = [];
  sync.onState((state) => states.push(state));
  const watcher = follow(sync, "1");
  await until("renewed", () => secrets(world.sockets[0]).length === 2);
  await new Promise((resolve) => setTimeout(resolve, ms)); // until the first has expired
  await world.write("1", 2);
  await until("the change", () => watcher.n === 2);
  assert.deepEqual(states, ["live"]);
  assert.equal(world.sockets.length, 1);
  assert.deepEqual(watcher.states, ["live", "live"]);
});

test("a fixed secret that expires is told of, and can be replaced", async (t) => {
  const world = await startWorld(t, { verify: true });
  const ms = await lifetime(world, 5_000);
  await world.tell("lifetime", { secret: "old", ms });
  let told = 0;
  const sync = world.connect({ secret: "old", onExpiring: (seconds) => { told = seconds; sync.renew("new"); } });
  await until("told", () => told > 0);
  await until("said", () => secrets(world.sockets[0]).length === 2);
  await new Promise((resolve) => setTimeout(resolve, ms));
  assert.equal(sync.state, "live");
  assert.equal(world.sockets.length, 1);
});

test("a secret that expired means come back with a new one", async (t) => {
  const world = await startWorld(t, { verify: true });
  await world.write("1", 1);
  await world.tell("lifetime", { secret: "old", ms: await lifetime(world, 2_000) });
  const errors = []; // the old one may be said once more when it has just expired
  const secret = () => (world.sockets[0]?.ended ? "new" : "old");
  const sync = world.connect({ secret, onError: ({ code }) => errors.push(code) });
  const watcher = follow(sync, "1");
  await until("expired", () => world.sockets[0]?.ended);
  assert.equal(world.sockets[0].ended.code, 4401);
  await until("back", () => sync.state === "live" && watcher.last?.state === "live");
  assert.equal(watcher.n, 1);
  assert.ok(errors.every((code) => code === "unauthenticated"));
});

test("a function that has no secret any more means connect anew", async (t) => {
  const world = await startWorld(t); // as with a cookie, which goes with the request
  await world.write("1", 1);
  let secret = "me";
  const sync = world.connect({ secret: () => secret });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  secret = undefined;
  await sync.renew();
  await until("back", () => watcher.last.state === "live");
  assert.equal(world.sockets.length, 2);
  assert.deepEqual(secrets(world.socket), []);
  assert.equal(actions(world.socket.sent)[0], "unsubscribe", "it asks for a sign that it is live");
});

test("a secret that is refused stops the client, until it has another", async (t) => {
  const world = await startWorld(t, { verify: true });
  await world.write("1", 1);
  await world.tell("withdraw", { secret: "bad" });
  const sync = world.connect({ secret: "bad" });
  const watcher = follow(sync, "1");
  await until("denied", () => sync.state === "denied" && watcher.last?.state === "denied");
  assert.equal(sync.error.code, "unauthenticated");
  await assert.rejects(sync.renew("bad"), { code: "unauthenticated" });
  await sync.renew("good");
  await until("the row", () => watcher.n === 1);
  assert.equal(sync.error, undefined);
});

test("a secret that is refused later is reported, and the one before goes on", async (t) => {
  const world = await startWorld(t, { verify: true });
  await world.write("1", 1);
  await world.tell("withdraw", { secret: "bad" });
  const errors = [];
  const sync = world.connect({ onError: (error) => errors.push(error.code) });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  await assert.rejects(sync.renew("bad"), { code: "unauthenticated" });
  sync.renew("bad"); // nobody waits, and nothing is unhandled
  await until("reported", () => errors.length === 2);
  assert.deepEqual(errors, ["unauthenticated", "unauthenticated"]);
  await world.write("1", 2);
  await until("the change", () => watcher.n === 2);
});

test("a secret that is withdrawn ends everything at once", async (t) => {
  const world = await startWorld(t, { verify: true });
  await world.write("1", 1);
  const sync = world.connect({ secret: "me" });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  await world.tell("revoke", { secret: "me" });
  await until("denied", () => sync.state === "denied");
  assert.deepEqual([sync.error.code, sync.error.closeCode], ["revoked", 4503]);
  assert.equal(watcher.last.state, "denied");
  assert.equal(watcher.last.rows, undefined);
  await sync.renew("another");
  await until("back", () => watcher.n === 1);
});

test("the application may ask for a new connection", async (t) => {
  const world = await startWorld(t, { verify: true });
  const sync = world.connect({ secret: "me" });
  await until("live", () => sync.state === "live");
  await world.tell("disconnect", { secret: "me" });
  await until("live again", () => world.sockets.length === 2 && sync.state === "live");
  assert.equal(world.sockets[0].ended.code, 4410);
});

test("a function that fails is asked again, and what it throws is reported", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const errors = [];
  let n = 0;
  const sync = world.connect({
    secret: () => {
      if (++n === 1) throw new Error("no token");
      return n === 2 ? Promise.reject(new Error("no token either")) : "me";
    },
    onError: (error) => errors.push(error.message),
  });
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  assert.deepEqual(errors, ["no token", "no token either"]);
});

test("of several renewals the last one counts, and closing rejects", async (t) => {
  const world = await startWorld(t, { verify: true });
  const sync = world.connect({ secret: "first" });
  await until("live", () => sync.state === "live");
  let slow;
  const renewals = [
    sync.renew(() => new Promise((resolve) => { slow = () => resolve("slow"); })),
    sync.renew("last"),
  ];
  slow();
  await Promise.all(renewals);
  assert.deepEqual(secrets(world.socket), ["first", "last"]);
  const never = sync.renew(() => new Promise(() => {}));
  sync.close();
  await assert.rejects(never, { code: "closed" });
  await assert.rejects(sync.renew(), { code: "closed" });
});
