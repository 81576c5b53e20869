// What React and TanStack Query make of pushed rows in a browser, frame by frame.

import test from "node:test";
import assert from "node:assert/strict";
import { blocks } from "../page.js";
import { startWorld, until } from "../world.js";
import { serve, startApp } from "./app.js";
import { openPage } from "./chromium.js";

/** Notes what can be seen of the page's paragraph whenever a frame begins. */
const WATCH = `
  const seen = [];
  const look = () => {
    const part = document.querySelector("p");
    const text = part?.checkVisibility() ? part.className + " " + part.textContent : "";
    if (text !== seen.at(-1)) seen.push(text);
    requestAnimationFrame(look);
  };
  look();
`;

/** Serves a component App, and opens its page. */
async function open(t, world, code) {
  const app = await startApp(t, {
    "index.html": '<!doctype html><div id="root"></div><script type="module" src="/main.jsx"></script>',
    "main.jsx": `import { createRoot } from "react-dom/client";
      import { App } from "./app.jsx";
      createRoot(document.getElementById("root")).render(<App />);`,
    "app.jsx": `const url = "/ws/entity-sync/";\n${code}`,
    "vite.config.js": blocks("Vite", "js run in vite.config.js")[0].replace("http://127.0.0.1:8080", new URL(world.url).origin.replace("ws:", "http:")),
  });
  const inPage = await openPage(t, await serve(t, app, "node_modules/vite/bin/vite.js", "--port", "0"), WATCH);
  const seen = async () => JSON.parse(await inPage("JSON.stringify(seen)"));
  const shows = async (text) => {
    let all;
    await until(() => `${text}; seen: ${all}`, async () => (all = await seen()).at(-1) === text);
  };
  return { inPage, seen, shows };
}

const TAB = `
import { Activity, useState } from "react";
import { connect } from "entity-sync";
import { SyncProvider, useEntity } from "entity-sync/react";

const sync = connect(url, { secret: "me", linger: 0 });

export function App() {
  const [mode, setMode] = useState("visible");
  return <SyncProvider sync={sync}>
    <button onClick={() => setMode(mode === "visible" ? "hidden" : "visible")} />
    <Activity mode={mode}><Item id="100" /></Activity>
  </SyncProvider>;
}

function Item({ id }) {
  const { row, state } = useEntity("items", id);
  return <p className={state}>{row?.name}</p>;
}
`;

test("no frame shows an older row as live after Activity", async (t) => {
  const world = await startWorld(t);
  await world.tell("write", { id: "100", row: { name: "hammer" } });
  const { inPage, seen, shows } = await open(t, world, TAB);
  await shows("live hammer");
  const click = () => inPage("document.querySelector('button').click()");
  await click();
  await shows("");
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
  await world.tell("write", { id: "100", row: { name: "saw" } });
  await world.tell("slow", { ms: 200 });
  await click();
  await shows("live saw");
  assert.deepEqual((await seen()).slice(-4), ["live hammer", "", "stale hammer", "live saw"]);
  assert.deepEqual(inPage.errors, []);
});

test("a query that had data before it was asked for is kept current", async (t) => {
  const world = await startWorld(t);
  await world.tell("slow", { ms: 200 });
  await world.tell("write", { id: "100", row: { name: "hammer" } });
  const { inPage, seen, shows } = await open(t, world, `${blocks("TanStack Query", "jsx run")[0]}
queries.setQueryData(entityQuery(sync, "items", "100").queryKey, [{ name: "nail" }]); // such as from a cache that was kept
`);
  await shows(" hammer");
  await world.tell("write", { id: "100", row: { name: "saw" } });
  await shows(" saw");
  assert.deepEqual((await seen()).slice(-3), [" nail", " hammer", " saw"]);
  assert.deepEqual(inPage.errors, []);
});
