import assert from "node:assert/strict";
import { test } from "node:test";

import { Optimistic } from "../page/optimistic.js";

/** An Optimistic with all that it has shown, and writes that are answered by hand. */
function scene(row = { revision: 1, quantity: 10, name: "Kettle" }) {
  const history = [];
  const look = () => {
    const { quantity } = optimistic.shown;
    if (history.at(-1) !== quantity) {
      history.push(quantity);
    }
  };
  const optimistic = new Optimistic(look);
  const arrives = (row) => {
    optimistic.receive(row);
    look();
  };
  const writes = [];
  const edit = (quantity) => {
    const written = optimistic.edit({ quantity }, () => new Promise((resolve, reject) => writes.push({ resolve, reject })));
    written.catch(() => {}); // where a test does not look
    return written;
  };
  arrives(row);
  return { optimistic, arrives, edit, writes, history };
}

/** Lets what has been settled be heard of. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("an edit shows at once and is pending until its row is here", async () => {
  const { optimistic, arrives, edit, writes, history } = scene();
  edit(42);
  assert.deepEqual(history, [10, 42]);
  assert.ok(optimistic.isPending("quantity"));
  assert.ok(!optimistic.isPending("name"));
  await settled();
  writes[0].resolve({ revision: 2 });
  await settled();
  assert.ok(optimistic.isPending("quantity"), "the row is not here yet");
  arrives({ revision: 2, quantity: 42, name: "Kettle" });
  assert.ok(!optimistic.isPending("quantity"));
  assert.deepEqual(history, [10, 42]);
});

test("a row that is here before the answer changes nothing", async () => {
  const { optimistic, arrives, edit, writes, history } = scene();
  const written = edit(42);
  await settled();
  arrives({ revision: 2, quantity: 42, name: "Kettle" });
  writes[0].resolve({ revision: 2 });
  assert.deepEqual(await written, { revision: 2 });
  assert.ok(!optimistic.isPending("quantity"));
  assert.deepEqual(history, [10, 42]);
});

test("an older echo is not shown, and other fields are", async () => {
  const { optimistic, arrives, edit, writes, history } = scene();
  edit(42);
  await settled();
  arrives({ revision: 2, quantity: 20, name: "Pot" });
  assert.equal(optimistic.shown.name, "Pot");
  writes[0].resolve({ revision: 4 });
  await settled();
  arrives({ revision: 3, quantity: 30, name: "Pot" });
  assert.deepEqual(history, [10, 42]);
  arrives({ revision: 4, quantity: 42, name: "Pot" });
  assert.deepEqual(history, [10, 42]);
});

test("a newer row is shown, in place of the edit's own that was skipped", async () => {
  const { arrives, edit, writes, history } = scene();
  edit(42);
  await settled();
  writes[0].resolve({ revision: 2 });
  await settled();
  arrives({ revision: 3, quantity: 30, name: "Kettle" });
  assert.deepEqual(history, [10, 42, 30]);
});

test("a newer row that was here before the answer is shown with it", async () => {
  const { arrives, edit, writes, history } = scene();
  edit(42);
  await settled();
  arrives({ revision: 3, quantity: 30, name: "Kettle" });
  assert.deepEqual(history, [10, 42]);
  writes[0].resolve({ revision: 2 });
  await settled();
  assert.deepEqual(history, [10, 42, 30]);
});

test("an edit that is refused is taken back, to what is there by then", async () => {
  const { optimistic, arrives, edit, writes, history } = scene();
  const written = edit(42);
  await settled();
  arrives({ revision: 2, quantity: 20, name: "Kettle" });
  writes[0].reject(new Error("too many"));
  await assert.rejects(written, { message: "too many" });
  assert.ok(!optimistic.isPending("quantity"));
  assert.deepEqual(history, [10, 42, 20]);
});

test("writes go one after the other, also after one that was refused", async () => {
  const { arrives, edit, writes, history } = scene();
  edit(11);
  edit(12);
  edit(13);
  await settled();
  assert.equal(writes.length, 1);
  writes[0].resolve({ revision: 2 });
  await settled();
  assert.equal(writes.length, 2);
  writes[1].reject(new Error("no"));
  await settled();
  assert.equal(writes.length, 3);
  arrives({ revision: 2, quantity: 11, name: "Kettle" });
  writes[2].resolve({ revision: 3 });
  await settled();
  arrives({ revision: 3, quantity: 13, name: "Kettle" });
  assert.deepEqual(history, [10, 11, 12, 13]);
});

test("a write that throws at once is refused like any other", async () => {
  const { optimistic, history } = scene();
  const written = optimistic.edit({ quantity: 42 }, () => {
    throw new Error("offline");
  });
  await assert.rejects(written, { message: "offline" });
  assert.deepEqual(history, [10, 42, 10]);
});

// A model of the whole: a server that counts revisions, a socket that brings the
// newest row at any time and skips what it likes, answers that take any time, and
// somebody else who writes too. All only ever add, so nothing may ever go back.
test("nothing goes back, whatever the order", async () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = generator(seed);
    let server = { revision: 1, quantity: 10 };
    const { optimistic, arrives, history } = scene(server);
    const steps = []; // that the network may take now
    const add = () => (server = { revision: server.revision + 1, quantity: server.quantity + 1 });
    const push = () => server.revision > optimistic.row.revision && arrives(server);

    let open = 0; // edits without an answer
    for (let left = 30; left > 0 || open > 0;) {
      await settled();
      const what = random(4);
      if (what === 0 && left > 0) {
        left--;
        open++;
        optimistic.edit({ quantity: optimistic.shown.quantity + 1 }, () => new Promise((resolve) => {
          steps.push(() => {
            const { revision } = add();
            steps.push(() => resolve({ revision }));
          });
        })).then(() => open--);
      } else if (what === 1 && left > 0) {
        left--;
        add();
      } else if (what === 2) {
        push();
      } else if (steps.length > 0) {
        steps.splice(random(steps.length), 1)[0]();
      }
    }
    await settled();
    push();
    assert.equal(optimistic.shown.quantity, 40, `seed ${seed}`);
    assert.ok(!optimistic.isPending("quantity"), `seed ${seed}`);
    assert.deepEqual(history, [...history].sort((a, b) => a - b), `seed ${seed}`);
  }
});

/** A generator of numbers below n that is the same for the same seed. */
function generator(seed) {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}
