// An application with the frameworks' packages, and Entity Sync as docs/clients.md
// has it installed. What takes long is said, for those who wait.

import { execFile, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { here, startClone } from "../clone.js";
import { blocks } from "../page.js";

const frameworks = (path) => here(`test/frameworks/${path}`);
const run = promisify(execFile);

/** Makes one of some files. */
export async function startApp(t, files, install = blocks("In a page", "sh run")[0]) {
  console.log("an application is installed");
  const place = await startClone(t);
  await run("cp", ["-al", frameworks("node_modules"), place.app]).catch(() => run("cp", ["-R", frameworks("node_modules"), place.app])); // hard links where there are any
  await run("cp", [frameworks("package.json"), frameworks("package-lock.json"), place.app]);
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(place.app, dirname(name)), { recursive: true });
    await writeFile(join(place.app, name), text);
  }
  await place.run(install);
  return place;
}

/** Starts a server of the application's, and returns its address once it says it. */
export async function serve(t, { app, env }, ...args) {
  console.log("the application's server is started");
  const server = spawn(process.execPath, args, { cwd: app, env, stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(server, "exit");
  t.after(async () => {
    server.kill();
    await exited;
  });
  let said = "";
  for await (const text of server.stdout.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
    said += text.replaceAll(/\x1b\[[\d;]*m/g, "");
    const [, address] = /Local: +(http:\S+?)\/?\s/.exec(said) ?? [];
    if (address) {
      server.stdout.resume();
      return address;
    }
  }
  throw new Error(`no server: ${said}`);
}
