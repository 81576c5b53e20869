import "./dom.js";
import test from "node:test";
import assert from "node:assert/strict";
import { StrictMode, createElement as h } from "react";
import { createRoot } from "react-dom/client";
import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { entityQuery, invalidateOn, keepCurrent } from "../tanstack-query.js";
import { follow, startWorld, until } from "./world.js";

function setUp(t, sync) {
  const queries = new QueryClient({ defaultOptions: { queries: { gcTime: Infinity } } }); // or its timers keep the test
  t.after(() => queries.clear());
  t.after(keepCurrent(queries, sync));
  return queries;
}

/** Renders under StrictMode, and notes everything that was shown. */
function render(t, queries, Part, props) {
  const place = document.createElement("div");
  const root = createRoot(place);
  t.after(() => root.unmount());
  root.render(h(StrictMode, null, h(QueryClientProvider, { client: queries }, h(Part, props))));
  return { root, get text() { return place.textContent; } };
}

test("a query is fetched once and then pushed to", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const queries = setUp(t, sync);
  const seen = [];
  const Item = () => {
    const { data, status, error } = useQuery(entityQuery(sync, "items", 1));
    const shown = `${status} ${data?.map((row) => row.n)} ${error?.code}`;
    if (seen.at(-1) !== shown) seen.push(shown);
    return shown;
  };
  const page = render(t, queries, Item);
  await until("the row", () => page.text === "success 1 undefined");
  await world.write("1", 2);
  await until("the change", () => page.text === "success 2 undefined");
  await world.tell("cut");
  for (let n = 3; n <= 20; n++) await world.write("1", n);
  await until("what was missed", () => page.text === "success 20 undefined");
  await world.tell("delete", { id: "1" });
  await until("the end", () => page.text === "success  undefined");
  await world.tell("hide", { id: "1", on: true });
  await world.tell("notify", { id: "1" });
  await until("denied", () => page.text === "error undefined forbidden");
  await world.tell("hide", { id: "1", on: false });
  await world.write("1", 21);
  await sync.renew("another");
  await until("seen again", () => page.text === "success 21 undefined");
  assert.equal(seen[0], "pending undefined undefined");
  const numbers = seen.map((text) => Number(text.split(" ")[1])).filter((n) => n > 0);
  assert.deepEqual(numbers, numbers.slice().sort((a, b) => a - b), "never backwards");

  page.root.unmount();
  queries.clear();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
});

test("a key that is denied from the start is an error", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  const queries = setUp(t, sync);
  await assert.rejects(queries.fetchQuery(entityQuery(sync, "nothing", "1")), { code: "unknown_entity" });
});

test("what is pushed while a query is fetched is not lost to what the fetch brings", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const queries = setUp(t, sync);
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  const slow = { ...entityQuery(sync, "items", "1") };
  const { queryFn } = slow;
  let finish;
  const late = new Promise((resolve) => { finish = resolve; });
  slow.queryFn = async (context) => {
    const rows = await queryFn(context);
    await late; // as a fetch that was slow
    return rows;
  };
  const fetched = queries.fetchQuery(slow);
  await until("it is being fetched", () => queries.isFetching() === 1);
  await world.write("1", 2);
  await until("the change", () => queries.getQueryData(slow.queryKey)?.[0].n === 2);
  finish();
  await fetched;
  await until("it is over", () => queries.isFetching() === 0);
  await until("the newest", () => queries.getQueryData(slow.queryKey)[0].n === 2);
});

test("a fetch that nobody waits for any more ends", async (t) => {
  const world = await startWorld(t);
  await world.tell("freeze", { on: true });
  const sync = world.connect();
  const queries = setUp(t, sync);
  const options = entityQuery(sync, "items", "1");
  const fetched = queries.fetchQuery(options);
  await until("it is being fetched", () => queries.isFetching() === 1);
  await queries.cancelQueries({ queryKey: options.queryKey });
  await assert.rejects(fetched);
  const again = queries.fetchQuery(options);
  sync.close();
  await assert.rejects(again, /closed/);
});

test("a change invalidates the queries that depend on it, also in their first fetch", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const queries = setUp(t, sync);
  t.after(invalidateOn(queries, sync, "items", "1", { queryKey: ["orders"] }));
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);

  let stored = "old";
  const fetches = [];
  const Orders = () => useQuery({
    queryKey: ["orders", "list"],
    queryFn: () => new Promise((resolve) => {
      const read = stored; // the database was read, and the answer is under way
      fetches.push(() => resolve(read));
    }),
  }).data ?? "loading";
  const page = render(t, queries, Orders);
  await until("the first fetch is under way", () => fetches.length === 1);
  stored = "new";
  await world.write("1", 2);
  await until("the change is heard", () => watcher.n === 2);
  await new Promise((resolve) => setTimeout(resolve, 20)); // until TanStack Query has made nothing of it
  assert.equal(fetches.length, 1);
  fetches[0]();
  await until("it is fetched again", () => fetches.length === 2);
  fetches[1]();
  await until("the newest", () => page.text === "new");

  stored = "newer";
  await world.write("1", 3);
  await until("it is fetched again", () => fetches.length === 3);
  fetches[2]();
  await until("the newest", () => page.text === "newer");
  await world.tell("cut");
  await until("back", () => world.sockets.length === 2 && watcher.last.state === "live");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(fetches.length, 3, "a reconnect without changes fetches nothing");
});

for (const [what, options] of [
  ["under its own key", (sync) => entityQuery(sync, "items", "1")],
  ["under a key of the program's", (sync) => ({ ...entityQuery(sync, "items", "1"), queryKey: ["mine"] })],
]) {
  test(`a query that had data before it was asked for is kept current, ${what}`, async (t) => {
    const world = await startWorld(t);
    await world.write("1", 2);
    const sync = world.connect();
    const queries = setUp(t, sync);
    const { queryKey } = options(sync);
    queries.setQueryData(queryKey, [{ id: "1", n: 1 }]); // such as from a cache that was kept
    const Item = () => useQuery(options(sync)).data?.[0].n ?? "nothing";
    const page = render(t, queries, Item);
    await until("the row", () => page.text === "2");
    await world.write("1", 3);
    await until("the change", () => page.text === "3");
    page.root.unmount();
    queries.clear();
    await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
  });
}

test("a query that is fetched only where it has no data is kept current when it had", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 2);
  const sync = world.connect();
  const queries = setUp(t, sync);
  const options = entityQuery(sync, "items", "1");
  queries.setQueryData(options.queryKey, [{ id: "1", n: 1 }]);
  await queries.fetchQuery(options);
  await until("the row", () => queries.getQueryData(options.queryKey)[0].n === 2);
});

/** A query of orders, whose fetches end when the test says so, and what each of them read. */
function orders(options = {}) {
  const fetches = [];
  const world = { stored: 0, fetches, get open() { return fetches.filter(({ open }) => open).length; } };
  world.Orders = () => useQuery({
    queryKey: ["orders"],
    queryFn: () => new Promise((resolve) => {
      const read = world.stored; // the database was read, and the answer is under way
      const one = { open: true, end() { this.open = false; resolve(read); } };
      fetches.push(one);
    }),
    ...options,
  }).data ?? "nothing";
  return world;
}

test("changes that come quicker than a fetch takes starve nobody, and cost one fetch more", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  const queries = setUp(t, sync);
  const app = orders();
  const page = render(t, queries, app.Orders);
  await until("the first fetch", () => app.fetches.length === 1);
  app.fetches[0].end();
  await until("it is shown", () => page.text === "0");
  t.after(invalidateOn(queries, sync, "items", "1", { queryKey: ["orders"] }));
  const watcher = follow(sync, "1");
  let n = 0;
  const change = async () => {
    app.stored = ++n;
    await world.write("1", n);
    await until("it is heard", () => watcher.n === n);
  };
  await change();
  await until("it is fetched again", () => app.fetches.length === 2);
  for (let shown = 1; shown <= 3; shown++) {
    const read = n;
    for (let i = 0; i < 5; i++) await change();
    assert.equal(app.fetches.length, shown + 1, "the fetch is left alone");
    app.fetches.at(-1).end();
    await until("what it brought", () => page.text === String(read));
    await until("it is fetched once more", () => app.fetches.length === shown + 2);
  }
  app.fetches.at(-1).end();
  await until("the newest", () => page.text === String(n));
  assert.equal(queries.isFetching(), 0);
  assert.equal(app.fetches.length, 5);
});

test("a change is not lost with a fetch that is cancelled", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const queries = setUp(t, sync);
  const app = orders({ staleTime: Infinity });
  const page = render(t, queries, app.Orders);
  await until("the first fetch", () => app.fetches.length === 1);
  app.fetches[0].end();
  await until("it is shown", () => page.text === "0");
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1);
  t.after(invalidateOn(queries, sync, "items", "1", { queryKey: ["orders"] }));
  await until("it is fetched when the row is known", () => app.fetches.length === 2);
  app.fetches[1].end();
  await until("it is over", () => queries.isFetching() === 0);

  queries.refetchQueries({ queryKey: ["orders"] }); // for a reason of the program's
  await until("it is fetched", () => app.fetches.length === 3);
  app.stored = 2;
  await world.write("1", 2);
  await until("the change is heard", () => watcher.n === 2);
  await queries.cancelQueries({ queryKey: ["orders"] });
  await until("it is fetched all the same", () => app.fetches.length === 4);
  app.fetches[3].end();
  await until("the newest", () => page.text === "2");
});

test("rows that come while a program sets the data leave the fetch alone", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  const queries = setUp(t, sync);
  const app = orders();
  const page = render(t, queries, app.Orders);
  await until("the first fetch", () => app.fetches.length === 1);
  t.after(invalidateOn(queries, sync, "items", "1", { queryKey: ["orders"] }));
  const watcher = follow(sync, "1");
  app.stored = 1;
  await world.write("1", 1);
  await until("the change is heard", () => watcher.n === 1);
  queries.setQueryData(["orders"], "set");
  await until("it is shown", () => page.text === "set");
  assert.deepEqual([app.fetches.length, app.open], [1, 1]);
  app.fetches[0].end();
  await until("it is fetched once more", () => app.fetches.length === 2);
  app.fetches[1].end();
  await until("the newest", () => page.text === "1");
});
