// The quick starts of docs/clients.md, as they stand there.

import "./dom.js";
import test from "node:test";
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { StrictMode, createElement as h } from "react";
import { createRoot } from "react-dom/client";
import { get } from "svelte/store";
import * as vue from "vue";
import esbuild from "esbuild";
import { entityStore } from "../store.js";
import { startWorld, until } from "./world.js";

const page = await readFile(new URL("../../../docs/clients.md", import.meta.url), "utf8");

/** The code block that is to be run below a heading. */
function block(heading) {
  const [, section] = page.split(`\n## ${heading}\n`);
  assert.ok(section, `docs/clients.md has no section ${heading}`);
  const code = /```jsx? run\n([^]*?)\n```/.exec(section.split("\n## ")[0]);
  assert.ok(code, `the section ${heading} has nothing to run`);
  return code[1];
}

/** Runs a block against a server of its own, which has what the page takes for granted. */
async function run(t, heading) {
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
  const { code } = await esbuild.transform(block(heading), { loader: "jsx", jsx: "automatic" });
  const file = new URL(`${heading.replaceAll(/\W/g, "")}.mjs`, folder);
  await writeFile(file, `${code}\nexport const theSync = sync, theQueries = typeof queries === "undefined" ? undefined : queries;\n`);
  const module = await import(`${file}?${Date.now()}`);
  Object.assign(globalThis, before);
  t.after(() => module.theSync.close());
  return { world, ...module };
}

test("The client", async (t) => {
  const lines = [];
  const log = t.mock.method(console, "log", (...args) => lines.push(args));
  const { world, theSync } = await run(t, "The client");
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

test("TanStack Query", async (t) => {
  const { world, App, theQueries } = await run(t, "TanStack Query");
  const place = render(t, App);
  t.after(() => theQueries.clear()); // after what used them is gone, or they keep the test
  await until("the row", () => place.textContent === "hammer");
  await world.tell("write", { id: "100", row: { name: "saw" } });
  await until("the change", () => place.textContent === "saw");
});

test("Svelte, Vue, Solid", async (t) => {
  const { item, connection } = await run(t, "Svelte, Vue, Solid");
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
  const { theSync } = await run(t, "One connection for all tabs");
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
