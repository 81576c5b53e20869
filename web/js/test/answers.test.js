// An answer belongs to the request that it names, and to the key of it.

import test from "node:test";
import assert from "node:assert/strict";
import { follow, until } from "./world.js";
import { rows, startScript } from "./script.js";

/** A node that keeps its answer to the first subscription back. */
async function startSlow(t) {
  let first;
  const script = await startScript(t, ({ action, ref, body }, { say }) => {
    if (action !== "subscribe") return false;
    if (!first) {
      first = { ref, body };
      return true;
    }
    say({ action: "ack", ref });
    rows(body).forEach(say);
    return true;
  });
  const sync = script.connect({ linger: 0 });
  const watchers = ["1", "2", "3"].map((id) => follow(sync, id));
  await until("it is asked", () => first);
  return { script, sync, watchers, first };
}

for (const left of [1, 2]) {
  for (const [how, named] of Object.entries({ name: { entity: "items", id: "1" }, index: { index: 0 } })) {
    test(`a refusal by ${how} of a key that was let go is not put upon the ${left} that stay`, async (t) => {
      const { script, watchers: [gone, ...others], first } = await startSlow(t);
      gone.end();
      const stay = others.slice(0, left);
      others.slice(left).forEach(({ end }) => end());
      await until("they are let go", () => script.asked("unsubscribe").length > 0);
      script.say({ action: "error", ref: first.ref, body: { code: "forbidden", message: "no", ...named } });
      script.say({ action: "ack", ref: first.ref });
      rows(first.body).slice(1).forEach(script.say);
      await until("the rows", () => stay.every((watcher) => watcher.last));
      assert.deepEqual(stay.map(({ states }) => states), stay.map(() => ["live"]));
      assert.equal(script.asked("subscribe").length, 1, "nothing is asked anew");
    });
  }
}

test("a refusal of a key that is watched again is that of the earlier request", async (t) => {
  const { script, sync, watchers: [gone, two], first } = await startSlow(t);
  gone.end();
  await until("it is let go", () => script.asked("unsubscribe").length > 0);
  const again = follow(sync, "1");
  await until("it is asked for again", () => script.asked("subscribe").length === 2);
  script.say({ action: "error", ref: first.ref, body: { code: "forbidden", message: "no", entity: "items", id: "1" } });
  script.say({ action: "ack", ref: first.ref });
  rows(first.body).slice(1).forEach(script.say);
  await until("the rows", () => again.last && two.last);
  assert.deepEqual([again.states, two.states], [["live"], ["live"]]);
});

test("a refusal by index is that of one key", async (t) => {
  const { script, watchers: [one, two, three], first } = await startSlow(t);
  script.say({ action: "error", ref: first.ref, body: { code: "bad_key", message: "no", index: 1 } });
  script.say({ action: "ack", ref: first.ref });
  rows(first.body).filter((_, i) => i !== 1).forEach(script.say);
  await until("all are told", () => one.last && two.last && three.last);
  assert.deepEqual([one, two, three].map(({ states }) => states), [["live"], ["denied"], ["live"]]);
  assert.equal(script.asked("subscribe").length, 1, "nothing is asked anew");
});
