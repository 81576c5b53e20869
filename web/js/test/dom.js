// A document for React to render into. It must be imported before React is.

import { JSDOM } from "jsdom";

const { window } = new JSDOM("<!doctype html><body></body>", { url: "http://127.0.0.1/" });
globalThis.window = window;
globalThis.document = window.document;
globalThis.navigator ??= window.navigator; // which newer versions of Node have themselves
