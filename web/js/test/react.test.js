import "./dom.js";
import test from "node:test";
import assert from "node:assert/strict";
import { Activity, Component, StrictMode, Suspense, createElement as h } from "react";
import { flushSync } from "react-dom";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { SyncProvider, preload, useEntity, useEntitySuspense, useSync, useSyncState, useTopic } from "../react.js";
import { actions, follow, neverBackwards, startWorld, until } from "./world.js";

/** Renders under StrictMode, and says what is shown. */
function render(t, sync, element) {
  const place = document.createElement("div");
  const errors = [];
  t.mock.method(console, "error", (...args) => errors.push(args.join(" "))); // where React complains
  const root = createRoot(place, { onCaughtError: (error) => errors.push(error), onUncaughtError: (error) => errors.push(error) });
  t.after(() => {
    root.unmount();
    assert.deepEqual(errors.filter((error) => typeof error === "string"), []);
  });
  const show = (what) => root.render(h(StrictMode, null, h(SyncProvider, { sync }, what)));
  show(element);
  const now = (what) => flushSync(() => show(what)); // until somebody could see it
  return { show, now, errors, root, get text() { return place.textContent; } };
}

function Item({ id, seen }) {
  const update = useEntity("items", id);
  seen?.push(update);
  return `[${id}: ${update.row?.n ?? "-"} ${update.state}]`;
}

test("a component shows what is current, and one subscription serves all", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  await world.write("2", 7);
  const sync = world.connect();
  const seen = [];
  const page = render(t, sync, [h(Item, { key: "a", id: "1", seen }), h(Item, { key: "b", id: "1" }), h(State, { key: "c" })]);
  await until("the row", () => page.text === "[1: 1 live][1: 1 live]live");
  await world.write("1", 2);
  await until("the change", () => page.text === "[1: 2 live][1: 2 live]live");
  await world.tell("cut");
  await until("the reconnect", () => world.sockets.length === 2 && page.text === "[1: 2 live][1: 2 live]live");
  page.show(h(Item, { id: "2", seen: undefined }));
  await until("another key", () => page.text === "[2: 7 live]");
  neverBackwards({ seen });
  page.root.unmount();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
  assert.deepEqual(actions(world.sockets[0].sent), ["secret", "subscribe"], "StrictMode's double effects cost nothing");
});

function State() {
  return useSyncState();
}

test("a component is rendered no more often than there are news", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  let renders = 0;
  const Counting = () => {
    renders++;
    return useEntity("items", "1").row?.n;
  };
  const page = render(t, sync, h(Counting));
  await until("the row", () => page.text === "1");
  const before = renders;
  await world.tell("notify", { id: "1" }); // the same row again
  await world.write("2", 1);
  await world.write("1", 2);
  await until("the change", () => page.text === "2");
  assert.equal(renders - before, 2, "once, and once more by StrictMode");
});

test("a denied key says why", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const Denied = () => {
    const { state, error, row } = useEntity("items", "1");
    return `${state} ${error?.code} ${row?.n}`;
  };
  const page = render(t, sync, h(Denied));
  await until("the row", () => page.text === "live undefined 1");
  await world.tell("hide", { id: "1", on: true });
  await world.tell("notify", { id: "1" });
  await until("denied", () => page.text === "denied forbidden undefined");
});

class Boundary extends Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    return this.state.error ? `caught ${this.state.error.code}` : this.props.children;
  }
}

function Loaded({ id }) {
  const { rows: [row], state } = useEntitySuspense("items", id);
  return `[${id}: ${row?.n} ${state}]`;
}

const waiting = (...children) => h(Boundary, null, h(Suspense, { fallback: "loading" }, ...children));

for (const linger of [0, 1_000]) {
  test(`Suspense waits for the first rows, and for those only (linger ${linger})`, async (t) => {
    const world = await startWorld(t);
    await world.write("1", 1);
    await world.write("2", 1);
    await world.tell("slow", { ms: 100 });
    const sync = world.connect({ linger });
    const page = render(t, sync, waiting(h(Loaded, { key: 1, id: "1" }), h(Loaded, { key: 2, id: "2" })));
    await until("waiting", () => page.text === "loading");
    await until("the rows", () => page.text === "[1: 1 live][2: 1 live]");
    await world.tell("shut", { on: true });
    await world.tell("cut");
    await until("the rows stay", () => page.text === "[1: 1 offline][2: 1 offline]");
    await world.write("1", 2);
    await world.tell("shut", { on: false });
    await until("the change", () => page.text === "[1: 2 live][2: 1 live]");
    assert.deepEqual(page.errors, []);
    const subscribes = world.sockets[0].sent.filter((text) => text.includes('"subscribe"'));
    assert.ok(subscribes.length <= 2, `subscribed ${subscribes.length} times`);
  });
}

test("Suspense hands a denied key to the error boundary", async (t) => {
  const world = await startWorld(t);
  await world.tell("hide", { id: "1", on: true });
  const page = render(t, world.connect(), waiting(h(Loaded, { id: "1" })));
  await until("caught", () => page.text === "caught forbidden");
});

test("what is preloaded is there at once, and what was preloaded for nothing is let go", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  await Promise.all([preload(sync, "items", 1), preload(sync, "items", "1")]);
  await new Promise((resolve) => setTimeout(resolve, 1_500)); // longer than a key lingers
  const page = render(t, sync, waiting(h(Loaded, { id: "1" })));
  await until("something", () => page.text !== "");
  assert.equal(page.text, "[1: 1 live]");
  page.root.unmount();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
});

test("a closed client ends what waits for it", async (t) => {
  const world = await startWorld(t);
  await world.tell("freeze", { on: true });
  const sync = world.connect();
  const page = render(t, sync, waiting(h(Loaded, { id: "1" })));
  await until("waiting", () => page.text === "loading");
  sync.close();
  await until("told", () => page.text === "caught undefined");
});

// In an element, for React empties the text of what it hides, and hides elements as they are.
const tab = (mode, ...children) => h(Activity, { mode, key: "tab" }, h("p", null, ...children));

test("what was hidden is not live before it is watched again, and never goes back", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  const seen = [];
  const page = render(t, sync, tab("visible", h(Item, { id: "1", seen })));
  await until("the row", () => page.text === "[1: 1 live]");
  page.now(tab("hidden", h(Item, { id: "1", seen })));
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0 && sync.get("items", "1") === undefined);
  await until("it says so", () => page.text === "[1: 1 stale]");
  await world.write("1", 2);
  await world.tell("slow", { ms: 100 });
  const before = seen.length;
  page.now(tab("visible", h(Item, { id: "1", seen })));
  assert.equal(page.text, "[1: 1 stale]");
  await until("the change", () => page.text === "[1: 2 live]");
  assert.deepEqual(seen.slice(before).filter(({ row, state }) => !row || (row.n === 1 && state === "live")), []);
  neverBackwards({ seen });
});

test("what is hidden for a moment is current at once", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 60_000 });
  const item = h(Item, { id: "1" }); // which React does not render anew
  const page = render(t, sync, tab("visible", item));
  await until("the row", () => page.text === "[1: 1 live]");
  page.now(tab("hidden", item));
  await until("it says so", () => page.text === "[1: 1 stale]");
  await world.write("1", 2);
  await until("the client knows it", () => sync.get("items", "1").row.n === 2);
  page.now(tab("visible", item));
  assert.equal(page.text, "[1: 2 live]");
  assert.equal(actions(world.socket.sent).filter((action) => action === "subscribe").length, 1);
});

test("what is shown again agrees with what others show", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  const item = h(Item, { id: "1" });
  const both = (mode) => [h(Item, { key: 1, id: "1" }), tab(mode, item)];
  const page = render(t, sync, both("hidden")); // it was never there
  await until("the row", () => page.text.startsWith("[1: 1 live]"));
  await world.write("1", 2);
  await until("the change", () => page.text.startsWith("[1: 2 live]"));
  page.now(both("visible"));
  assert.equal(page.text, "[1: 2 live][1: 2 live]");
  page.now(both("hidden"));
  await world.write("1", 3);
  await until("the change", () => page.text.startsWith("[1: 3 live]"));
  page.now(both("visible"));
  assert.equal(page.text, "[1: 3 live][1: 3 live]");
});

test("what may not be seen any more is not shown again", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  const item = h(Item, { id: "1" });
  const state = h(State);
  const page = render(t, sync, tab("visible", item, state));
  await until("the row", () => page.text === "[1: 1 live]live");
  page.now(tab("hidden", item, state));
  await until("it says so", () => page.text.startsWith("[1: 1 stale]"));
  await world.tell("revoke", { secret: "me" });
  await until("revoked", () => sync.state === "denied");
  page.now(tab("visible", item, state));
  assert.equal(page.text, "[1: - denied]denied");
});

test("a page takes over what a server has rendered, whatever the client knows by then", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect();
  const watcher = follow(sync, "1");
  await until("the row", () => watcher.n === 1 && watcher.last.state === "live");
  const errors = [];
  t.mock.method(console, "error", (...args) => errors.push(args.join(" ")));
  const App = () => h(StrictMode, null, h(SyncProvider, { sync }, h(Item, { id: "1" }), h(State), waiting(h(Loaded, { id: "1" }))));
  const place = document.createElement("div");
  place.innerHTML = renderToString(h(App));
  assert.equal(place.textContent, "[1: - connecting]connectingloading");
  const [text] = place.childNodes;
  const recovered = [];
  const root = hydrateRoot(place, h(App), { onRecoverableError: (error) => recovered.push(error.message) });
  t.after(() => root.unmount());
  await until("the row", () => place.textContent === "[1: 1 live]live[1: 1 live]");
  assert.equal(place.firstChild, text, "React has kept what was there");
  assert.deepEqual(errors, []);
  assert.equal(recovered.length, 1, "of <Suspense> alone, which waits in the page");
  assert.match(recovered[0], /known in the page alone/);
});

test("a page whose client comes later shows what the server has rendered until then", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const errors = [];
  t.mock.method(console, "error", (...args) => errors.push(args.join(" ")));
  const what = (sync) => h(StrictMode, null, h(SyncProvider, { sync }, h(Item, { id: "1" }), h(State), waiting(h(Loaded, { id: "1" }))));
  const place = document.createElement("div");
  const page = createRoot(place);
  t.after(() => page.unmount());
  flushSync(() => page.render(what(null)));
  assert.equal(place.textContent, "[1: - connecting]connectingloading");
  page.render(what(world.connect()));
  await until("the row", () => place.textContent === "[1: 1 live]live[1: 1 live]");
  assert.deepEqual(errors, []);
  assert.throws(() => renderToString(h(SyncProvider, { sync: null }, h(function Early() { return useSync().state; }))), /no connection yet/);
});

test("on a server nothing is known yet; and without a provider it says so", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  assert.equal(renderToString(h(SyncProvider, { sync }, h(Item, { id: "1" }), h(State))), "[1: - connecting]<!-- -->connecting");
  assert.throws(() => renderToString(h(function Lost() { return useSync().state; })), /SyncProvider/);
});

test("a component hears a topic, with the callback of its last rendering", async (t) => {
  const world = await startWorld(t);
  const sync = world.connect();
  const heard = [];
  function Toast({ name, topic = "news" }) {
    const { state, error } = useTopic(topic, ({ event }) => heard.push(`${name} ${event?.data}`));
    return `${state} ${error?.code ?? ""}`;
  }
  const page = render(t, sync, h(Toast, { name: "a" }));
  await until("live", () => page.text === "live ");
  await world.tell("publish", { id: "news.uk", row: 1 });
  await until("the first", () => heard.length === 1);
  page.now(h(Toast, { name: "b" }));
  await world.tell("publish", { id: "news", row: 2 });
  await until("the second", () => heard.length === 2);
  assert.deepEqual(heard, ["a 1", "b 2"]);
  page.show(h(Toast, { name: "c", topic: "elsewhere" }));
  await until("denied", () => page.text === "denied unknown_topic");
  page.show(h(Toast, { name: "d" }));
  await until("live again", () => page.text === "live ");
  page.root.unmount();
  await until("the topic is left", () => actions(world.socket.sent).at(-1) === "unsubscribe");
  assert.deepEqual(actions(world.socket.sent), ["secret", "subscribe", "unsubscribe", "subscribe", "subscribe", "unsubscribe"], "StrictMode's double effects cost nothing");
});
