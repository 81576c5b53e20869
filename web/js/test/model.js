// A model of the browser client's states: a client, a node and their application, who
// do random things at random times. Nothing in it goes by a real clock, so a seed is
// one schedule, always.

import assert from "node:assert/strict";
import { randomBy } from "./random.js";

const PLACES = 3; // that the node has for a client
const IDS = ["1", "2", "3", "4", "5", "6"];
const turn = setImmediate; // a real one: when it comes, no microtask is left

/** Time, which passes when it is told to, and chance. */
class Clock {
  now = 1e6;
  timers = new Map();
  #last = 0;

  constructor(random) {
    const set = (run, ms = 0, every = undefined) => {
      this.timers.set(++this.#last, { at: this.now + Math.max(0, ms), run, every });
      return this.#last;
    };
    this.globals = {
      setTimeout: (run, ms, value) => set(() => run(value), ms),
      setInterval: (run, ms) => set(run, ms, ms),
      clearTimeout: (id) => void this.timers.delete(id),
      clearInterval: (id) => void this.timers.delete(id),
      performance: { now: () => this.now },
      Date: { now: () => this.now },
      Math: Object.assign(Object.create(Math), { random: () => random(1_000) / 1_000 }),
    };
  }

  /** Timers that ring once: what a client waits for. */
  get waits() {
    return [...this.timers.values()].filter(({ every }) => every === undefined);
  }

  /** Has the next timer ring, if that is by then. */
  ring(until = Infinity) {
    const [id, timer] = [...this.timers].reduce((a, b) => (b[1].at < a[1].at ? b : a));
    if (timer.at > until) {
      this.now = until;
      return false;
    }
    this.now = Math.max(this.now, timer.at);
    if (timer.every === undefined) this.timers.delete(id);
    else timer.at += timer.every;
    timer.run();
    return true;
  }
}

/** A node, with the sockets that lead to it. */
class Node {
  rows = new Map(IDS.map((id) => [id, { n: 0, there: true }]));
  hidden = new Set();
  unavailable = new Set();
  sockets = [];
  down = false;
  frozen = false;
  stale = false;
  verdicts = []; // on secrets, by their number

  /** What can happen next, besides time. */
  get pending() {
    return this.frozen ? [] : this.sockets.flatMap((socket) => [
      ...(socket.up.length > 0 ? [() => this.#take(socket, socket.up.shift())] : []),
      ...(socket.owed.size > 0 ? [() => this.#fetch(socket, [...socket.owed.keys()][0])] : []),
      ...(socket.down.length > 0 ? [() => socket.down.shift()()] : []),
    ]);
  }

  write(id, there) {
    this.rows.set(id, { n: this.rows.get(id).n + 1, there });
    this.look(id);
  }

  look(id) {
    for (const { subs, owed } of this.sockets) {
      if (subs.has(id) && !owed.has(id)) owed.set(id, subs.get(id));
    }
  }

  end(socket, code, reason = "", told = () => {}) {
    socket.gone = true;
    socket.up = [];
    socket.owed.clear();
    socket.subs.clear();
    socket.down.push(() => {
      socket.readyState = 3;
      this.sockets = this.sockets.filter((other) => other !== socket);
      told();
      socket.onclose?.({ code, reason });
    });
  }

  #take(socket, message) {
    if (message === undefined) { // it was closed
      this.sockets = this.sockets.filter((other) => other !== socket);
      return;
    }
    const { action, ref, body } = message;
    const keys = [body].flat();
    const say = (said) => socket.says({ ref, ...said });
    if (action === "secret") {
      const good = body.startsWith("good");
      this.verdicts[Number(body.split(" ")[1])] = good;
      if (!good) return say({ action: "error", body: { code: body.startsWith("later") ? "unavailable" : "unauthenticated", message: body } });
      socket.known = true;
    } else if (action === "unsubscribe") {
      for (const { id } of keys) [socket.subs, socket.owed].forEach((map) => map.delete(id));
    } else {
      keys.forEach(({ entity, id, version }, index) => {
        const code = this.#refuses(socket, id);
        socket.answers.set(id, code);
        if (code !== undefined) {
          say({ action: "error", body: { ...(index % 2 ? { index } : { entity, id }), code, message: code } });
        } else {
          socket.subs.set(id, version);
          socket.owed.set(id, version);
        }
      });
    }
    say({ action: "ack" });
    if (this.stale && !socket.told) socket.says({ action: "stale" });
    socket.told = true;
  }

  #refuses(socket, id) {
    if (!socket.known) return "unauthenticated";
    if (this.hidden.has(id)) return "forbidden";
    if (this.unavailable.has(id)) return "unavailable";
    return socket.subs.has(id) || socket.subs.size < PLACES ? undefined : "too_many_subscriptions";
  }

  #fetch(socket, id) {
    const has = socket.owed.get(id);
    socket.owed.delete(id);
    const key = { entity: "items", id };
    const { n, there } = this.rows.get(id);
    if (this.hidden.has(id)) {
      socket.subs.delete(id);
      socket.answers.set(id, "forbidden");
      socket.says({ action: "unsubscribed", body: { ...key, code: "forbidden", message: "forbidden" } });
    } else if (!there) {
      socket.subs.set(id, undefined);
      socket.says({ action: "delete", body: key });
    } else {
      socket.subs.set(id, `v${n}`);
      socket.says(has === `v${n}` ? { action: "current", body: { ...key, version: has } } : { action: "update", body: { ...key, version: `v${n}`, rows: [{ id, n }] } });
    }
  }
}

/** What the client takes for a WebSocket. */
const socketOf = (node) => class {
  readyState = 0;
  up = [];
  down = [];
  subs = new Map(); // to the versions that were sent
  owed = new Map();
  answers = new Map(); // to the last subscription of a key: the code of a refusal
  keys = new Map(); // of each request
  asked = new Map(); // keys of each request, but those that were refused
  granted = new Set(); // keys that the client has been told are subscribed to

  constructor() {
    node.sockets.push(this);
    if (node.down) node.end(this, 1006);
    else {
      this.down.push(() => {
        this.readyState = 1;
        this.onopen?.();
      });
    }
  }

  says(message) {
    const { action, ref, body } = message;
    const text = JSON.stringify(message);
    this.down.push(() => {
      const asked = this.asked.get(ref);
      if (action === "error") asked?.delete(body.id ?? [...this.keys.get(ref)][body.index]);
      if (action === "ack") asked?.forEach((id) => this.granted.add(id));
      this.onmessage?.({ data: text });
    });
  }

  send(text) {
    const message = JSON.parse(text);
    const { action, ref, body } = message;
    if (action !== "secret") [body].flat().forEach(({ id }) => this.granted.delete(id));
    if (action === "subscribe") {
      this.keys.set(ref, body.map(({ id }) => id));
      this.asked.set(ref, new Set(this.keys.get(ref)));
    }
    if (!this.gone) this.up.push(message);
  }

  close() {
    this.readyState = 3;
    this.down = [];
    this.up.push(undefined);
  }
};

/**
 * Runs a schedule: steps of which each is an act of somebody's, or what follows from
 * earlier ones; then all is well, and must become so for the client. Throws otherwise.
 */
export async function runModel(connect, seed, steps = 150) {
  const random = randomBy(seed);
  const clock = new Clock(random);
  const before = Object.fromEntries(Object.keys(clock.globals).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]));
  for (const [name, value] of Object.entries(clock.globals)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  try {
    await new Model(connect, random, clock).run(steps);
  } finally {
    for (const [name, descriptor] of Object.entries(before)) Object.defineProperty(globalThis, name, descriptor);
  }
}

class Model {
  watching = [];
  renewals = [];
  secrets = 0; // that there were
  calm = false; // everybody is well
  states = [];
  fault = undefined;
  plan = undefined; // what the next callback does
  moment = 0; // that has something to do with a renewal
  left = undefined; // the key that somebody has let go last
  revoked = -1; // when the client heard that last

  constructor(connect, random, clock) {
    this.random = random;
    this.clock = clock;
    this.node = new Node();
    this.sync = connect("ws://node/", {
      WebSocket: socketOf(this.node),
      secret: () => this.secret(),
      timeout: 1_000,
      linger: [0, 100, 2_000][random(3)],
      retry: { min: 50, max: 2_000 },
      onError: (error) => { if (error instanceof assert.AssertionError) this.fault ??= error; },
    });
    this.sync.onState((state) => {
      assert.notEqual(state, this.states.at(-1), "a state was told twice");
      this.states.push(state);
      this.called();
    });
  }

  secret(kind = this.calm ? 0 : this.random(10)) {
    const number = ++this.secrets;
    switch (kind) {
      case 1: return new Promise(() => {}); // never settles
      case 2: throw new Error("no secret");
      case 3: return `bad ${number}`;
      case 4: return `later ${number}`;
      case 5: case 6: return new Promise((resolve) => setTimeout(resolve, this.random(300), `good ${number}`));
      default: return `good ${number}`;
    }
  }

  /** A callback of the client's, in which the application may do as it likes. */
  called() {
    const plan = this.plan;
    this.plan = undefined;
    plan?.();
  }

  renew() {
    const kind = this.random(7);
    const renewal = { from: this.secrets + 1, at: ++this.moment };
    this.renewals.push(renewal);
    const settle = (how) => (value) => Object.assign(renewal, { how, value, to: this.secrets });
    this.sync.renew(() => this.secret(this.calm ? 0 : kind)).then(settle("taken"), settle("refused"));
  }

  watch(id) {
    const watcher = { id, seen: [] };
    this.watching.push(watcher);
    watcher.end = this.sync.subscribe("items", id, (update) => {
      const { row, rows, state, error } = update;
      assert.notEqual(update, watcher.seen.at(-1), "an update was told twice");
      if (row) {
        assert.equal(row.id, id, "a row of another key");
        assert.ok(row.n >= (watcher.newest ?? 0), `${id} went back: ${row.n} after ${watcher.newest}`);
        watcher.newest = row.n;
      }
      assert.ok(state !== "live" || rows, `${id} is live without rows`);
      assert.ok(state !== "live" || this.node.sockets.at(-1).granted.has(id), `${id} is live, and the node has not said so`);
      assert.ok(state !== "denied" || (!rows && error), `${id} is denied, and is shown`);
      assert.ok(error?.id === undefined || error.id === id, `${id} is denied for ${error?.id}`);
      watcher.seen.push(update);
      this.called();
    });
  }

  acts = {
    watch: () => this.watching.length < 10 && this.watch(IDS[this.random(6)]),
    let: () => {
      const [watcher] = this.watching.splice(this.random(this.watching.length + 1), 1);
      watcher?.end();
      this.left = watcher?.id ?? this.left;
    },
    back: () => this.left && this.watching.length < 10 && this.watch(this.left), // maybe while it lingers
    renew: () => this.renew(),
    plan: () => {
      this.plan = [() => this.renew(), () => this.acts.watch(), () => this.acts.let()][this.random(3)];
    },
    write: () => this.node.write(IDS[this.random(6)], this.random(8) > 0),
    hide: () => {
      const id = IDS[this.random(6)];
      if (!this.node.hidden.delete(id)) this.node.hidden.add(id);
      this.node.look(id);
    },
    unavailable: () => {
      const id = IDS[this.random(6)];
      if (!this.node.unavailable.delete(id)) this.node.unavailable.add(id);
    },
    cut: () => {
      const socket = this.node.sockets.find(({ readyState, gone }) => readyState === 1 && !gone);
      const how = this.random(6);
      const told = () => { if (how === 0) this.revoked = ++this.moment; };
      if (socket) this.node.end(socket, [4503, 1006, 1006, 4410, 4401, 1012][how], how === 5 ? "restarting; retry in 700 ms" : "", told);
    },
    down: () => { this.node.down = !this.node.down; },
    freeze: () => { this.node.frozen = !this.node.frozen; },
    stale: () => {
      this.node.stale = !this.node.stale;
      this.node.sockets.filter(({ told, gone }) => told && !gone).forEach((socket) => socket.says({ action: this.node.stale ? "stale" : "fresh" }));
    },
    pass: () => this.clock.ring(this.clock.now + this.random(500)),
  };

  async run(steps) {
    const calm = ["watch", "watch", "let", "back", "write", "hide", "pass"];
    const rough = ["watch", "let", "write", "write", "write", "renew", "plan", "unavailable", "cut", "down", "freeze", "stale", "pass"];
    await this.go(steps, [...calm, ...rough]);
    await this.rest();
    await this.go(steps / 3, calm);
    await this.pass(20_000);
    this.end();
  }

  async go(steps, acts) {
    for (let step = 0; step < steps; step++) {
      const { pending } = this.node;
      if (pending.length > 0 && this.random(3) > 0) pending[this.random(pending.length)]();
      else this.acts[acts[this.random(acts.length)]]();
      await new Promise(turn);
      this.check();
    }
  }

  /**
   * Nothing is to come from anybody: then something is waited for, wherever all is not
   * well, a key that found no place would find none now, and every place has its key.
   */
  check() {
    if (this.fault) throw this.fault; // of what the application was told
    const { state } = this.sync;
    const waits = this.clock.waits.length;
    if (state === "connecting" || state === "offline") {
      assert.ok(waits > 0 || this.node.pending.length > 0 || this.node.frozen, `${state}, and nothing is waited for`);
      assert.ok(waits > 0, `${state}, and no timer ends that`);
    }
    if (this.node.pending.length > 0 || this.node.frozen || state === "denied") return;
    const connected = state === "live" || state === "stale";
    const subs = this.node.sockets.at(-1)?.subs;
    for (const { id, seen } of this.watching) {
      const { state: key = "connecting", error } = this.sync.get("items", id) ?? {};
      assert.ok(key !== "connecting" || waits > 0, `${id} is ${key}, after ${seen.map((update) => update.state)}, and no timer ends that`);
      const full = !connected || subs.size === PLACES;
      assert.ok(full || error?.code !== "too_many_subscriptions", `${id} is denied, and there are places`);
    }
    for (const id of connected ? subs.keys() : []) assert.ok(this.sync.get("items", id), `${id} is sent to nobody`);
  }

  async pass(ms) {
    const until = this.clock.now + ms;
    do {
      await new Promise(turn);
      for (let { pending } = this.node; pending.length > 0; { pending } = this.node) {
        pending[this.random(pending.length)]();
        await new Promise(turn);
      }
      this.check();
    } while (this.clock.ring(until));
  }

  /** Everybody is well again, and so must the client become. */
  async rest() {
    const { node, sync } = this;
    this.calm = true;
    this.plan = undefined;
    node.down = node.frozen = false;
    node.unavailable.clear();
    if (node.stale) this.acts.stale();
    await this.pass(20_000);
    if (sync.state === "denied") {
      assert.ok(["unauthenticated", "revoked"].includes(sync.error.code));
      for (const { id } of this.watching) {
        const { state, error } = sync.get("items", id);
        assert.ok(state === "denied" && (error === sync.error || error.id === id), `${id} is ${state}, where all is denied`);
      }
      this.renew();
      await this.pass(20_000);
    }
    assert.equal(sync.state, "live", "what the client comes to when all are well");
  }

  end() {
    const { node, sync } = this;
    const [socket, ...others] = node.sockets;
    assert.equal(others.length, 0, "one connection");
    const ids = [...new Set(this.watching.map(({ id }) => id))];
    for (const id of ids) {
      const { state, row, rows, error } = sync.get("items", id);
      const truth = node.rows.get(id);
      if (socket.subs.has(id)) {
        assert.equal(state, "live", `${id}, which the node sends`);
        assert.equal(rows.length, truth.there ? 1 : 0, id);
        assert.equal(row?.n, truth.there ? truth.n : undefined, id);
      } else {
        assert.equal(state, "denied", `${id}, which the node does not send`);
        assert.equal(error.code, socket.answers.get(id), `why ${id} is denied`);
        assert.ok(error.code !== "too_many_subscriptions" || socket.subs.size === PLACES, `${id} is denied, and there are places`);
      }
      for (const { seen } of this.watching.filter((watcher) => watcher.id === id)) assert.equal(seen.at(-1), sync.get("items", id), `who watches ${id} knows`);
    }
    for (const id of socket.subs.keys()) assert.ok(ids.includes(id), `${id} is sent to nobody`);
    for (const { how, value, from, to, at } of this.renewals) {
      assert.ok(how, "a renewal is not settled");
      const verdicts = node.verdicts.slice(from, to + 1);
      if (how === "taken") assert.ok(verdicts.includes(true), "a renewal is taken, and the node has taken none");
      else if (value.code === "unauthenticated") assert.ok(verdicts.includes(false), "a renewal is refused, and the node has refused none");
      else assert.ok(["unavailable", undefined].includes(value.code) || (value.code === "revoked" && this.revoked > at), `a renewal is refused: ${value.code}`);
    }
    sync.close();
    assert.equal(this.clock.timers.size, 0, "timers are left");
  }
}
