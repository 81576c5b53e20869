// Next.js builds what docs/clients.md shows, and connects in the browser alone.

import test from "node:test";
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { blocks } from "../page.js";
import { startWorld, until } from "../world.js";
import { serve, startApp } from "./app.js";
import { openPage } from "./chromium.js";

const LIVE = `"use client";\n${blocks("Login and logout", "jsx run")[0]}`;

/** A component of the server's that uses one of the module's. */
const PROVIDED = `
import { SyncProvider } from "entity-sync/react";
export default function Page() {
  return <SyncProvider sync={null}><p>provided</p></SyncProvider>;
}
`;

/** Remembers what the server has rendered. */
const REMEMBER = 'document.addEventListener("DOMContentLoaded", () => { rendered = document.querySelector("body > p"); });';

/** Notes every WebSocket that the server makes. */
const TRAP = `
import { appendFileSync } from "node:fs";
const file = new URL("connected", import.meta.url);
globalThis.WebSocket = class {
  constructor(url) { appendFileSync(file, url + "\\n"); }
  send() {}
  close() {}
};
`;

const files = (live) => ({
  "app/layout.jsx": "export default function Layout({ children }) { return <html><body>{children}</body></html>; }",
  "app/page.jsx": blocks("Next.js", "jsx run in app/page.jsx")[0],
  "app/live.jsx": live,
  "app/provided/page.jsx": PROVIDED,
  "next.config.mjs": "export default { turbopack: { root: import.meta.dirname } };",
  "trap.mjs": TRAP,
  connected: "",
});

async function build(t, live) {
  const app = await startApp(t, files(live));
  Object.assign(app.env, { NEXT_TELEMETRY_DISABLED: "1", NODE_OPTIONS: `--import ${join(app.app, "trap.mjs")}` });
  console.log("next build");
  await app.run("node_modules/.bin/next build").catch(({ stdout, stderr }) => assert.fail(stdout + stderr));
  const connected = () => readFile(join(app.app, "connected"), "utf8");
  return { ...app, connected };
}

/** A port that is free now. */
async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

test("the quick start is built, and its page is live", async (t) => {
  const port = await freePort();
  const world = await startWorld(t, { allowedOrigins: [`http://localhost:${port}`] });
  await world.tell("write", { id: "100", row: { name: "hammer" } });
  const app = await build(t, LIVE.replace("connect(url", `connect("${world.url}"`));
  const address = await serve(t, app, "node_modules/next/dist/bin/next", "start", "-p", String(port));
  assert.match(await (await fetch(address)).text(), /<p class="connecting">…<\/p>/);
  assert.match(await (await fetch(`${address}/provided`)).text(), /<p>provided<\/p>/);
  assert.equal(await app.connected(), "", "nothing has connected on the server");

  const inPage = await openPage(t, address, REMEMBER);
  const shows = (html) => async () => (await inPage("document.querySelector('body > p')?.outerHTML")) === html;
  await until("the row", shows('<p class="live">hammer</p>'));
  await world.tell("write", { id: "100", row: { name: "saw" } });
  await until("the change", shows('<p class="live">saw</p>'));
  assert.equal(await inPage("document.querySelector('body > p') === rendered"), true, "React has kept what the server rendered");
  assert.deepEqual(inPage.errors, []);
});

test("what is made where a module is loaded connects on the server", async (t) => {
  const app = await build(t, `"use client";
    const url = "ws://127.0.0.1:1/";
    ${blocks("React", "jsx run")[0]}`);
  assert.match(await app.connected(), /^ws:\/\/127\.0\.0\.1:1\/$/m);
});
