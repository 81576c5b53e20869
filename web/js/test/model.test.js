// Random schedules, of which none may break what is promised; and clients with a fault
// put in, each of which breaks something on one of them.

import test from "node:test";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import esbuild from "esbuild";
import { connect } from "../index.js";
import { here } from "./clone.js";
import { runModel } from "./model.js";

const RUNS = Number(process.env.RUNS ?? 300);
const FIRST = Number(process.env.SEED ?? 1); // with RUNS=1 it is that one alone

test("whatever happens, nothing goes back, is stuck, or is another's", async () => {
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    await runModel(connect, seed).catch((error) => assert.fail(`SEED=${seed} RUNS=1: ${error.stack}`));
  }
});

/** The client with a fault: its modules as one, after an edit of one place in the text of one of them. */
async function importFaulty(from, to) {
  let places = 0;
  const edit = async ({ path }) => {
    const source = await readFile(path, "utf8");
    places += source.split(from).length - 1;
    return { contents: source.replace(from, to) };
  };
  const plugin = { name: "fault", setup: (build) => build.onLoad({ filter: /\.js$/ }, edit) };
  const { outputFiles: [{ text }] } = await esbuild.build({ entryPoints: [here("index.js")], bundle: true, format: "esm", write: false, plugins: [plugin] });
  assert.equal(places, 1, "the fault's place in the code");
  return import(`data:text/javascript,${encodeURIComponent(text)}`);
}

for (const [fault, [from, to]] of Object.entries({
  "a refusal is that of all keys of the request": ["entry.id === id && entry.entity === entity", "true"],
  "what comes before the answer is taken": ["if (!entry?.subscribed || entry.request) {", "if (!entry || (action === \"unsubscribed\" && (!entry.subscribed || entry.request))) {"],
  "a secret function may take for ever": ["() => reject(new SyncError(\"unavailable\", \"no secret in time\"))", "() => {}"],
  "a node need not answer": ["this.#setDeadline(this.#context.timeout);", ""],
  "a connection that is lost is not tried again": ["    this.#retryLater(hint ?", "    void (hint ?"],
  "a key that is unavailable is not asked for again": ["this.#lookLater(entry, most, Math.random() * most);", ""],
  "a place that the node takes back is not given": ["      this.#freePlaces++;\n      this.#refused", "      this.#refused"],
  "a place that a refused key did not take is not given": ["      this.#freePlaces += those.length; // the refused key has not taken its place\n", ""],
  "a key that found no place and comes back is not asked for": ["(!entry.denied || entry.noPlace)", "!entry.denied"],
  "the application is told in the midst of a transition": ["if (context.queue.push(call) === 1) {", "call(); if (false) {"],
  "what is let go is not said": ["if (entry.subscribed) {\n          unwanted.push", "if (false) {\n          unwanted.push"],
  "a renewal that waits is dropped with the connection": ["this.#renewals.unshift(...[...this.requests.values()].flatMap(({ renewals = [] }) => renewals));", ""],
  "an earlier version goes with rows that are dropped": ["    this.rows = this.version = undefined;", "    this.rows = undefined;"],
})) {
  test(`the model sees it where ${fault}`, async (t) => {
    const { connect: faulty } = await importFaulty(from, to);
    let seed = 1;
    const end = 400;
    while (seed < end && await runModel(faulty, seed).then(() => true, (error) => void t.diagnostic(`seed ${seed}: ${error.message.split("\n")[0]}`))) seed++;
    assert.ok(seed < end, `${end} schedules ended well`);
  });
}
