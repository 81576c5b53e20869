// A program that closes clients in every state, and says which timers are left. It
// ends by itself, or something was left.

import WS from "ws";
import { connect } from "../index.js";

const url = process.argv[2];

const left = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout");

async function close(name, sync, socket) {
  const closed = socket && socket.readyState !== WS.CLOSED ? new Promise((resolve) => socket.on("close", resolve)) : undefined; // the socket's own timer is not ours
  sync.subscribe("items", "1", () => {});
  sync.close();
  sync.close();
  await closed;
  console.log(name, left());
}

let socket;
class WebSocket extends WS {
  constructor(...args) {
    super(...args);
    socket = this;
  }
}
const become = (sync, state) => new Promise((resolve) => sync.onState((now) => now === state && resolve(undefined)));

let sync = connect(url, { WebSocket });
await become(sync, "live");
await close("live", sync, socket);

sync = connect("ws://127.0.0.1:1/", { WebSocket });
await become(sync, "offline");
await close("waiting", sync);

sync = connect(url, { WebSocket });
await Promise.resolve();
await close("connecting", sync, socket);

sync = connect(url, { WebSocket });
await become(sync, "live");
sync.subscribe("items", "1", () => {})();
await close("lingering", sync, socket);

sync = connect(url, { WebSocket, retry: { min: 1e6, max: 1e6 } });
await become(sync, "live");
sync.subscribe("items", "1", () => {});
await Promise.resolve(); // until it is said
socket.emit("message", '{"action":"error","ref":2,"body":{"entity":"items","id":"1","code":"unavailable","message":"later"}}', false);
if (sync.get("items", "1").error.code !== "unavailable") throw new Error("it was not refused");
await close("unavailable", sync, socket);
