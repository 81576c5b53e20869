// A clone of the repository as far as npm looks, and an application beside it.

import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";

/** Where something of the package is. */
export const here = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** The files that the package consists of, besides what describes it. */
export const modules = (await readdir(here("."))).filter((name) => /\.(js|d\.ts)$/.test(name));

/** Makes both in a folder that goes with the test. The application is empty. */
export async function startClone(t) {
  const folder = await mkdtemp(join(tmpdir(), "entity-sync-clone-"));
  t.after(() => rm(folder, { recursive: true, maxRetries: 5 }));
  const clone = join(folder, "entity-sync/web/js");
  const app = join(folder, "app");
  await mkdir(clone, { recursive: true });
  await mkdir(app);
  for (const name of [...modules, "README.md", "package.json", "package-lock.json", "testserver"]) {
    await cp(here(name), join(clone, name), { recursive: true });
  }
  // Nothing of the npm that runs this test, nor of the machine's settings.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
  Object.assign(env, { npm_config_offline: "true", npm_config_cache: join(folder, "cache"), npm_config_userconfig: join(folder, "npmrc") });
  const run = (command) => promisify(execFile)("sh", ["-ec", command], { cwd: app, env, maxBuffer: 1e8 });
  return { app, clone, env, run, installed: join(app, "node_modules/entity-sync") };
}
