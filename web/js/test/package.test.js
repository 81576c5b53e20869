// What is published: its types, its size, and what it needs.

import test from "node:test";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import esbuild from "esbuild";

const run = promisify(execFile);
const here = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const tsc = (...args) => run(process.execPath, [here("node_modules/typescript/bin/tsc"), ...args], { cwd: here(".") })
  .catch(({ stdout }) => assert.fail(stdout));

test("the code has the types that it says", () => tsc("-p", "tsconfig.json"));

test("the declarations are those of the code: npm run types", async () => {
  const out = here("node_modules/.cache/types");
  await tsc("-p", "tsconfig.build.json", "--outDir", out);
  const made = await readdir(out);
  const declarations = (await readdir(here("."))).filter((name) => name.endsWith(".d.ts") && name !== "types.d.ts"); // which is no code's
  assert.deepEqual(declarations, made);
  for (const name of made) {
    assert.equal(await readFile(here(name), "utf8"), await readFile(`${out}/${name}`, "utf8"), name);
  }
});

test("programs in TypeScript compile against the package", () => tsc("-p", "tsconfig.test.json"));

/**
 * What npx esbuild index.js --bundle --format=esm --minify | gzip -9 | wc -c says, give or
 * take gzip's header: the bytes of the module and of all that it imports.
 */
async function sizeOf(file) {
  const { outputFiles: [{ contents }] } = await esbuild.build({ entryPoints: [here(file)], bundle: true, format: "esm", minify: true, write: false });
  return gzipSync(contents, { level: 9 }).length;
}

test("the client is less than 5 kB minified and gzipped", async (t) => {
  const size = await sizeOf("index.js");
  t.diagnostic(`index.js: ${size} bytes`);
  assert.ok(size < 5_000, `${size} bytes`);
});

test("the package needs nothing, and what it exports is there", async () => {
  const about = JSON.parse(await readFile(here("package.json"), "utf8"));
  assert.equal(about.dependencies, undefined);
  for (const paths of Object.values(about.exports)) {
    for (const path of Object.values(paths)) await readFile(here(path));
  }
});
