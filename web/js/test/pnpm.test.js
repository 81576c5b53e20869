// The types of a program whose packages are laid out as pnpm does it: each sees those
// alone that it names.

import test from "node:test";
import assert from "node:assert/strict";
import { cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { here, startClone } from "./clone.js";

const PROGRAM = `
import { QueryClient, useQuery } from "@tanstack/react-query";
import { connect } from "entity-sync";
import { entityQuery, invalidateOn, keepCurrent } from "entity-sync/tanstack-query";

const sync = connect("ws://127.0.0.1:1/");
const queries = new QueryClient();
const ends: (() => void)[] = [keepCurrent(queries, sync), invalidateOn(queries, sync, "items", 1, { queryKey: ["orders"], type: "all" })];
export function useName(): string | undefined {
  const { data } = useQuery(entityQuery<{ name: string }>(sync, "items", 1));
  // @ts-expect-error an item has no price
  void data?.[0]?.price;
  return data?.[0]?.name;
}
// @ts-expect-error that is no client of TanStack Query
keepCurrent({}, sync);
// @ts-expect-error a key is a list
invalidateOn(queries, sync, "items", 1, { queryKey: "orders" });
void ends;
`;

test("a program has the types of the framework's package alone", async (t) => {
  const place = await startClone(t);
  await place.run("npm pack ../entity-sync/web/js && tar xf entity-sync-*.tgz");
  const store = (name) => join(place.app, "node_modules/.pnpm", name.replace("/", "+"), "node_modules");
  const link = async (name, from) => {
    await mkdir(dirname(join(from, name)), { recursive: true });
    await symlink(relative(dirname(join(from, name)), join(store(name), name)), join(from, name));
  };
  const packages = {
    "entity-sync": ["react"],
    "@tanstack/react-query": ["@tanstack/query-core", "@types/react"],
    "@tanstack/query-core": [],
    "@types/react": ["csstype"],
    csstype: [],
    react: [],
  };
  for (const [name, needs] of Object.entries(packages)) {
    await cp(name === "entity-sync" ? join(place.app, "package") : here(`node_modules/${name}`), join(store(name), name), { recursive: true });
    for (const need of needs) await link(need, store(name));
  }
  for (const name of ["entity-sync", "@tanstack/react-query", "@types/react", "react"]) await link(name, join(place.app, "node_modules"));
  await writeFile(join(place.app, "package.json"), '{"type":"module"}');
  await writeFile(join(place.app, "program.ts"), PROGRAM);
  const tsc = here("node_modules/typescript/bin/tsc");
  await place.run(`node '${tsc}' --noEmit --strict --skipLibCheck false --module nodenext --target es2022 --lib es2022,dom --types "" program.ts`)
    .catch(({ stdout }) => assert.fail(stdout));
});
