// A page in headless Chromium, by the protocol that its developer tools speak.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WS from "ws";

/** Starts the first Chromium that is there. */
async function start(folder) {
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : []; // which does not work for root
  const args = ["--headless=new", "--disable-gpu", "--no-first-run", ...sandbox, `--user-data-dir=${folder}`, "--remote-debugging-port=0", "about:blank"];
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    const browser = spawn(name, args, { stdio: ["ignore", "ignore", "pipe"] });
    const missing = await once(browser, "spawn").then(() => false, () => true);
    if (!missing) return browser;
  }
  throw new Error("Chromium is missing: install the Debian package chromium");
}

/**
 * Opens a page, and runs a script there before any of the page's own. What it returns
 * evaluates an expression there; its errors are what the page has complained of.
 */
export async function openPage(t, url, script = "") {
  console.log("Chromium is started");
  const folder = await mkdtemp(join(tmpdir(), "entity-sync-chromium-"));
  const browser = await start(folder);
  const exited = once(browser, "exit");
  t.after(async () => {
    browser.kill();
    await exited;
    await rm(folder, { recursive: true, maxRetries: 5 });
  });
  let said = "";
  let tools;
  for await (const text of browser.stderr.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
    said += text;
    [, tools] = /listening on (ws:\S+)/.exec(said) ?? [];
    if (tools) break;
  }
  if (!tools) throw new Error(`Chromium ended: ${said}`);
  browser.stderr.resume();

  const socket = new WS(tools);
  await once(socket, "open");
  t.after(() => socket.close());
  const answers = new Map();
  const errors = [];
  socket.on("message", (text) => {
    const { id, result, error, method, params } = JSON.parse(text);
    if (id) answers.get(id)(error ? Promise.reject(new Error(error.message)) : result);
    if (method === "Runtime.exceptionThrown") errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Runtime.consoleAPICalled" && params.type === "error") errors.push(params.args.map(({ value, description }) => value ?? description).join(" "));
  });
  let last = 0;
  const call = (method, params, sessionId) => new Promise((resolve) => {
    answers.set(++last, resolve);
    socket.send(JSON.stringify({ id: last, method, params, sessionId }));
  });
  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  await call("Runtime.enable", {}, sessionId);
  await call("Page.enable", {}, sessionId);
  await call("Page.addScriptToEvaluateOnNewDocument", { source: script }, sessionId);
  await call("Page.navigate", { url }, sessionId);
  const inPage = async (expression) => (await call("Runtime.evaluate", { expression }, sessionId)).result.value;
  return Object.assign(inPage, { errors });
}
