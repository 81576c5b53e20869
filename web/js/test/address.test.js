// Which address is meant: one that is relative goes by the document's base.

import test from "node:test";
import assert from "node:assert/strict";
import { JSDOM } from "jsdom";
import { connect } from "../index.js";
import { define } from "./locks.js";

/** Notes where it is to connect, and does not. */
class WebSocket {
  static urls = [];
  constructor(url) {
    WebSocket.urls.push(url);
  }
  close() {}
}

const page = (html) => new JSDOM(html, { url: "https://example.com/app/page?a#b" }).window;

for (const [what, open, url, want] of [
  ["a page", () => page(""), "../ws", "wss://example.com/ws"],
  ["a page", () => page(""), "/ws", "wss://example.com/ws"],
  ["a page under <base>", () => page("<base href='/other/'>"), "ws", "wss://example.com/other/ws"],
  ["a page under <base> of another host", () => page("<base href='http://127.0.0.1:8080/'>"), "/ws", "ws://127.0.0.1:8080/ws"],
  ["a page under <base>", () => page("<base href='/other/'>"), "https://example.org/ws", "wss://example.org/ws"],
  ["a worker", () => ({ location: new URL("https://example.com/app/worker.js") }), "/ws", "wss://example.com/ws"],
]) {
  test(`${url} in ${what}`, async (t) => {
    const { document, location } = await open();
    define(t, { document, location });
    const sync = connect(url, { WebSocket });
    t.after(() => sync.close());
    await Promise.resolve();
    assert.equal(WebSocket.urls.at(-1), want);
  });
}

test("where nothing says what it is relative to, a relative address is an error", () => {
  assert.throws(() => connect("/ws", { WebSocket }), TypeError);
});
