// What the tests share: a real server to fail on command, and watchers that note
// everything they were ever shown.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";
import WS from "ws";
import { connect } from "../index.js";

const SERVER = fileURLToPath(new URL("../node_modules/.cache/testserver", import.meta.url));

/** How long anything may take on a machine that has much to do. */
export const PATIENCE = 30_000;

const now = performance.now.bind(performance); // tests set the clocks

/** Starts a server of its own for a test. */
export async function startWorld(t, options = {}) {
  const server = spawn(SERVER, [JSON.stringify(options)], { stdio: ["pipe", "pipe", "inherit"] });
  t.after(async () => {
    const exited = once(server, "exit");
    server.stdin.end();
    const [code] = await exited;
    assert.equal(code, 0, "the test server's exit code");
  });
  let line = "";
  for await (const text of server.stdout.setEncoding("utf8")) {
    line += text;
    if (line.endsWith("\n")) break;
  }
  return new World(t, JSON.parse(line));
}

class World {
  sockets = [];

  constructor(t, { url, control }) {
    this.t = t;
    this.url = url;
    this.control = control;
    const sockets = this.sockets;
    /** A WebSocket that notes what went through it. */
    this.WebSocket = class extends WS {
      sent = [];
      received = [];
      constructor(...args) {
        super(...args);
        sockets.push(this);
        this.on("message", (data) => this.received.push(String(data)));
        this.on("close", (code, reason) => { this.ended = { code, reason: String(reason), at: Date.now() }; });
        this.began = Date.now();
      }
      send(text) {
        this.sent.push(String(text));
        super.send(text);
      }
    };
  }

  /** The newest connection. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** Tells the server to do something. */
  async tell(order, body = {}) {
    const response = await fetch(`${this.control}/${order}`, { method: "POST", body: JSON.stringify(body) });
    assert.ok(response.ok, `${order}: ${response.status} ${response.ok || await response.text()}`);
    return response.json();
  }

  write(id, n, more = {}) {
    return this.tell("write", { id, row: { id, n }, ...more });
  }

  /** Connects a client that goes with the test, and fails it on an error that nobody expected. */
  connect(options = {}) {
    const sync = connect(this.url, {
      secret: "me",
      WebSocket: this.WebSocket,
      retry: { min: 50, max: 500 },
      onError: (error) => { unexpected ??= error; },
      ...options,
    });
    let unexpected;
    this.t.after(() => {
      sync.close();
      assert.ifError(unexpected);
    });
    return sync;
  }
}

/** Watches a key and notes everything. */
export function follow(sync, id, entity = "items", options = {}) {
  const seen = [];
  const end = sync.subscribe(entity, id, (update) => seen.push(update), options);
  return {
    seen,
    end,
    get last() { return seen.at(-1); },
    get n() { return seen.at(-1)?.row?.n; },
    get states() { return seen.map((update) => update.state); },
  };
}

/** Waits until something is so. */
export async function until(what, condition) {
  const end = now() + PATIENCE;
  for (;;) {
    if (await condition()) return;
    assert.ok(now() < end, `waited in vain: ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Fails unless what a watcher was shown never went back. */
export function neverBackwards({ seen }) {
  let newest = -1;
  for (const { row, state } of seen) {
    if (row === undefined) continue;
    assert.ok(row.n >= newest, `${row.n} (${state}) was shown after ${newest}`);
    newest = row.n;
  }
}

/** What was said on the wire, without what differs from run to run. */
export const actions = (texts) => texts.map((text) => JSON.parse(text).action);
