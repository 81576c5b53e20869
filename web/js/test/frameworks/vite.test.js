// The development server of Vite in front of a node, as docs/clients.md has it.

import test from "node:test";
import assert from "node:assert/strict";
import WS from "ws";
import { createServer } from "vite";
import { blocks } from "../page.js";
import { startWorld, until } from "../world.js";
import { serve, startApp } from "./app.js";
import { openPage } from "./chromium.js";

const CONFIG = blocks("Vite", "js run in vite.config.js")[0];
const NODE = "http://127.0.0.1:8080"; // in the page

const nodeOf = (world) => new URL(world.url).origin.replace("ws:", "http:");

/** The application of the section React. */
const files = (world) => ({
  "index.html": '<!doctype html><div id="root"></div><script type="module" src="/main.jsx"></script>',
  "main.jsx": `import { createRoot } from "react-dom/client";
    import { App } from "./app.jsx";
    createRoot(document.getElementById("root")).render(<App />);`,
  "app.jsx": `const url = "/ws/entity-sync/";\n${blocks("React", "jsx run")[0]}`,
  "vite.config.js": CONFIG.replace(NODE, nodeOf(world)),
});

test("a page of the development server is live", async (t) => {
  assert.ok(CONFIG.includes(NODE));
  const world = await startWorld(t);
  await world.tell("write", { id: "100", row: { name: "hammer" } });
  const app = await startApp(t, files(world));
  const address = await serve(t, app, "node_modules/vite/bin/vite.js", "--port", "0");
  const inPage = await openPage(t, address);
  const shows = (html) => async () => (await inPage("document.getElementById('root')?.innerHTML")) === html;
  await until("the row", shows('<p class="live">hammer</p>'));
  await world.tell("write", { id: "100", row: { name: "saw" } });
  await until("the change", shows('<p class="live">saw</p>'));
});

test("a symbolic link has a stub in the place of React", async (t) => {
  const world = await startWorld(t);
  const app = await startApp(t, files(world), "npm install ../entity-sync/web/js");
  const said = '"createContext" is not exported by "__vite-optional-peer-dep:react:entity-sync"';
  assert.ok(blocks("In a page", "text").includes(said), "docs/clients.md has the words");
  await assert.rejects(app.run("node_modules/.bin/vite build"), ({ stdout, stderr }) => `${stdout}${stderr}`.includes(said));
  await app.run(blocks("In a page", "sh run")[0]);
  await app.run("node_modules/.bin/vite build");
});

/** What a page of the development server is answered where the proxy is this: "open", or a status. */
async function answer(t, world, proxy) {
  const server = await createServer({ configFile: false, logLevel: "silent", root: import.meta.dirname, server: { host: "127.0.0.1", port: 0, proxy: { "/ws/": proxy } } });
  t.after(() => server.close());
  await server.listen();
  const { port } = server.httpServer.address();
  const socket = new WS(`ws://127.0.0.1:${port}/ws/entity-sync/`, "entity-sync.v2", { origin: `http://127.0.0.1:${port}` });
  t.after(() => socket.terminate());
  return new Promise((resolve, reject) => {
    socket.on("open", () => resolve("open"));
    socket.on("unexpected-response", (_, { statusCode }) => resolve(statusCode));
    socket.on("error", reject);
  });
}

test("changeOrigin makes the page one of another origin", async (t) => {
  const world = await startWorld(t);
  const target = nodeOf(world);
  assert.equal(await answer(t, world, { target, ws: true }), "open");
  assert.equal(await answer(t, world, { target, ws: true, changeOrigin: true }), 403);
  assert.equal(await answer(t, world, target.replace("http:", "ws:")), 403, "so does the short form");
});
