// The ways to install the package from a clone, as docs/clients.md has them, with
// the real npm and without a registry.

import test from "node:test";
import assert from "node:assert/strict";
import { appendFile, cp, lstat, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { here, modules, startClone } from "./clone.js";
import { blocks } from "./page.js";

/** A clone, and beside it an application with React. */
async function startApp(t) {
  const place = await startClone(t);
  for (const name of ["react", "react-dom", "scheduler"]) {
    await cp(here(`node_modules/${name}`), join(place.app, "node_modules", name), { recursive: true });
  }
  const { devDependencies } = JSON.parse(await readFile(here("package.json"), "utf8"));
  const dependencies = { react: devDependencies.react, "react-dom": devDependencies["react-dom"] };
  await writeFile(join(place.app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module", dependencies }));
  await writeFile(join(place.app, "show.js"), SHOW);
  return place;
}

/** Imports what the package exports, and renders with the React of the application. */
const SHOW = `
import { createElement as h } from "react";
import { renderToString } from "react-dom/server";
import { connect } from "entity-sync";
import { entityStore } from "entity-sync/store";
import { acrossTabs } from "entity-sync/tabs";
import { entityQuery } from "entity-sync/tanstack-query";
import { SyncProvider, useEntity } from "entity-sync/react";

const sync = connect("ws://127.0.0.1:1/", { WebSocket: class { close() {} } });
const Item = () => useEntity("items", "100").state;
console.log(renderToString(h(SyncProvider, { sync }, h(Item))), typeof entityStore, typeof acrossTabs, typeof entityQuery);
sync.close();
`;

/** Fails unless the application has a copy of the whole package, which works. */
async function works({ run, installed }) {
  assert.ok(!(await lstat(installed)).isSymbolicLink(), "it is a copy");
  assert.deepEqual((await readdir(installed)).sort(), ["README.md", "package.json", ...modules].sort());
  assert.equal((await run("node show.js")).stdout, "connecting function function function\n");
}

test("what npm packs is installed", async (t) => {
  const place = await startApp(t);
  const [commands] = blocks("In a page", "sh run");
  await place.run(commands);
  await works(place);

  // The types are those of the installed package, with what the application adds.
  const program = blocks("TypeScript", "ts run")[0];
  const wrong = "\n// @ts-expect-error an item has no price\nsync.get(\"items\", \"100\")?.row?.price;\n";
  await writeFile(join(place.app, "program.ts"), program + wrong);
  const tsc = here("node_modules/typescript/bin/tsc");
  await place.run(`node '${tsc}' --noEmit --strict --module nodenext --target es2022 --types "" program.ts`)
    .catch(({ stdout }) => assert.fail(stdout));

  await appendFile(join(place.clone, "store.js"), "// news\n");
  await place.run(commands);
  assert.match(await readFile(join(place.installed, "store.js"), "utf8"), /\/\/ news\n$/, "again, after the clone has changed");
});

test("the folder is installed with install-links", async (t) => {
  const place = await startApp(t);
  const [, commands] = blocks("In a page", "sh run");
  await place.run(commands);
  await works(place);
  await place.run("npm install");
  assert.ok(!(await lstat(place.installed)).isSymbolicLink(), "it stays a copy");
});

test("a symbolic link looks for React beside the clone", async (t) => {
  const place = await startApp(t);
  await place.run("npm install --no-install-links ../entity-sync/web/js"); // npm 9.0 to 9.3 would make none by itself
  assert.ok((await lstat(place.installed)).isSymbolicLink());
  await assert.rejects(place.run("node show.js"), ({ stderr }) => /Cannot find package 'react' imported from .*\/entity-sync\/web\/js\/react\.js/.test(stderr));

  await cp(here("node_modules/react"), join(place.clone, "node_modules/react"), { recursive: true }); // as its tests need it
  await assert.rejects(place.run("node show.js"), ({ stderr }) => /Invalid hook call/.test(stderr));
});
