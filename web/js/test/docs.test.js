// The quick starts of docs/clients.md, as they stand there.

import "./dom.js";
import test from "node:test";
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { StrictMode, createElement as h } from "react";
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { get } from "svelte/store";
import * as vue from "vue";
import esbuild from "esbuild";
import { entityStore } from "../store.js";
import { blocks, page } from "./page.js";
import { startWorld, until } from "./world.js";

/** Runs a section's first block against a server of its own, which has what the page takes for granted. */
async function run(t, heading, kind = "jsx run") {
  const world = await startWorld(t);
  await world.tell("write", { id: "100", row: { name: "hammer" } });
  const before = { WebSocket: globalThis.WebSocket, fetch: globalThis.fetch };
  Object.assign(globalThis, {
    url: world.url,
    secret: "a token",
    WebSocket: world.WebSocket,
    fetch: (where, ...more) => (where === "/token" ? Promise.resolve(new Response("a token")) : before.fetch(where, ...more)),
  });
  const folder = new URL(".docs/", import.meta.url);
  await mkdir(folder, { recursive: true });
  const { code } = await esbuild.transform(blocks(heading, kind)[0], { loader: "jsx", jsx: "automatic" });
  const file = new URL(`${heading.replaceAll(/\W/g, "")}.mjs`, folder);
  const ends = ["sync", "queries"].map((name) => `the_${name} = typeof ${name} === "undefined" ? undefined : ${name}`);
  await writeFile(file, `${code}\nexport const ${ends};\n`);
  const { the_sync: theSync, the_queries: theQueries, ...module } = await import(`${file}?${Date.now()}`);
  t.after(() => Object.assign(globalThis, before)); // components connect when they are shown
  t.after(() => theSync?.close());
  return { world, theSync, theQueries, ...module };
}

test("The client", async (t) => {
  const lines = [];
  const log = t.mock.method(console, "log", (...args) => lines.push(args));
  const { world, theSync } = await run(t, "The client", "js run");
  await until("its secrets were said", async () => world.socket.sent.filter((text) => text.includes('"secret"')).length === 2);
  log.mock.restore();
  assert.deepEqual(lines, [["connecting"], [{ name: "hammer" }, "live"]]);
  assert.equal(theSync.closed, true);
  assert.deepEqual(await world.tell("heard"), [{ kind: "a message of our own" }]);
  assert.ok(world.socket.sent[0].includes("a token"));
});

/** Renders under StrictMode. */
function render(t, App) {
  const place = document.createElement("div");
  const root = createRoot(place);
  root.render(h(StrictMode, null, h(App)));
  t.after(() => root.unmount());
  return place;
}

test("React", async (t) => {
  const { world, App } = await run(t, "React");
  const place = render(t, App);
  await until("the row", () => place.innerHTML === '<p class="live">hammer</p>');
  await world.tell("write", { id: "100", row: { name: "saw" } });
  await until("the change", () => place.textContent === "saw");
});

test("Login and logout", async (t) => {
  const { world, App } = await run(t, "Login and logout");
  let leaves = 0;
  const shown = [];
  const place = document.createElement("div");
  const observer = new window.MutationObserver(() => shown.push(place.innerHTML));
  observer.observe(place, { childList: true, subtree: true, characterData: true, attributes: true });
  const root = createRoot(place);
  t.after(() => { root.unmount(); observer.disconnect(); });
  const show = (person) => flushSync(() => root.render(h(StrictMode, null, h(App, { person, logout: () => leaves++ }))));
  const connections = async () => (await world.tell("figures")).Clients;

  show({ id: 1, token: () => "hers" });
  await until("her row", () => place.innerHTML === '<p class="live">hammer</p>');
  assert.equal(await connections(), 1, "what StrictMode connects for a moment is closed");

  await world.tell("freeze", { on: true }); // so that nothing comes to what is shown but from what is known
  show({ id: 2, token: "his" });
  shown.length = 0; // whatever is shown from now on is shown to him
  await until("his connection is under way", () => place.innerHTML === '<p class="connecting">…</p>');
  await world.tell("write", { id: "100", row: { name: "saw" } });
  await world.tell("freeze", { on: false });
  await until("his row", () => place.innerHTML === '<p class="live">saw</p>');
  assert.deepEqual(shown.filter((html) => html.includes("hammer")), []);
  await until("she is gone", async () => (await connections()) === 1);
  assert.deepEqual(world.socket.sent.filter((text) => text.includes("hers")), []);

  show(undefined);
  assert.equal(place.textContent, "Please log in.");
  await until("he is gone", async () => (await connections()) === 0);
  assert.equal(leaves, 0);
  show({ id: 2, token: "his" });
  await until("he is back", () => place.textContent === "saw");
  await world.tell("revoke", { secret: "his" });
  await until("it is told that he may not stay", () => leaves === 1);
  await until("nothing is shown", () => place.innerHTML === '<p class="denied">…</p>');
});

test("TanStack Query", async (t) => {
  const { world, App, theQueries } = await run(t, "TanStack Query");
  const place = render(t, App);
  t.after(() => theQueries.clear()); // after what used them is gone, or they keep the test
  await until("the row", () => place.textContent === "hammer");
  await world.tell("write", { id: "100", row: { name: "saw" } });
  await until("the change", () => place.textContent === "saw");
});

test("Svelte, Vue, Solid", async (t) => {
  const { item, connection } = await run(t, "Svelte, Vue, Solid", "js run");
  const end = item.subscribe(() => {});
  await until("the row", () => get(item).row?.name === "hammer");
  assert.equal(get(connection), "live");
  end();
});

/** What the lines for a framework define, given the framework. */
function lines(framework, sync, given) {
  const [, code] = new RegExp(`\n\`\`\`js run in ${framework}\n([^]*?)\n\`\`\``).exec(page);
  return new Function("sync", "entityStore", ...Object.keys(given), `${code}\nreturn item;`)(sync, entityStore, ...Object.values(given));
}

test("Vue", async (t) => {
  const world = await startWorld(t);
  await world.tell("write", { id: "100", row: { name: "hammer" } });
  const { shallowRef, onScopeDispose } = vue;
  const scope = vue.effectScope();
  const sync = world.connect({ linger: 0 });
  const item = scope.run(() => lines("Vue", sync, { shallowRef, onScopeDispose }));
  await until("the row", () => item.value.row?.name === "hammer");
  scope.stop();
  await until("nobody watches", () => sync.get("items", "100") === undefined);
});

test("Solid", async (t) => {
  const solid = await import("../node_modules/solid-js/dist/solid.js"); // not its build for servers
  const world = await startWorld(t);
  await world.tell("write", { id: "100", row: { name: "hammer" } });
  const sync = world.connect({ linger: 0 });
  const [item, dispose] = solid.createRoot((dispose) => [lines("Solid", sync, { from: solid.from }), dispose]);
  await until("the row", () => item()?.row?.name === "hammer");
  dispose();
  await until("nobody watches", () => sync.get("items", "100") === undefined);
});

test("One connection for all tabs", async (t) => {
  const { theSync } = await run(t, "One connection for all tabs", "js run");
  await until("the connection", () => theSync.state === "live");
});

test("the size is what the page says", async () => {
  const [, command, figure] = /\$ cd web\/js && (npx esbuild .*)\n(\d+)\n/.exec(page);
  const { stdout } = await promisify(execFile)("sh", ["-c", command], { cwd: fileURLToPath(new URL("..", import.meta.url)) });
  assert.ok(Math.abs(Number(stdout) - Number(figure)) <= 20, `it is ${stdout.trim()} bytes, the page says ${figure}`); // gzips differ
});

test("the tables name what there is", async () => {
  const types = await readFile(new URL("../index.d.ts", import.meta.url), "utf8");
  const [, options] = /export type Options = \{([^]*?)\n\};/.exec(types);
  for (const [, name] of options.matchAll(/^ {4}(\w+)\?:/gm)) {
    assert.ok(new RegExp(`^\\| \`${name}[\`(]`, "m").test(page), `the page says nothing of the option ${name}`);
  }
  const [, states] = /export type State = (.*);/.exec(types);
  for (const [, state] of states.matchAll(/"(\w+)"/g)) assert.ok(page.includes(`\n| \`${state}\` |`), state);
});
