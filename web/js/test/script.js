// A server that says what a test has it say, and when: for what no real node can be
// brought to say at the very moment.

import { once } from "node:events";
import { WebSocketServer } from "ws";
import WS from "ws";
import { connect } from "../index.js";

/** Starts it. Requests are acknowledged, unless the test answers one in its place. */
export async function startScript(t, answer = () => undefined) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  const script = { connections: 0, heard: [], url: `ws://127.0.0.1:${server.address().port}` };
  server.on("connection", (socket) => {
    script.connections++;
    script.say = (message) => socket.send(JSON.stringify(message));
    script.close = (code, reason) => socket.close(code, reason);
    socket.on("message", (data) => {
      const message = JSON.parse(String(data));
      script.heard.push(message);
      if (!answer(message, script)) script.say({ action: "ack", ref: message.ref });
    });
  });
  /** What was asked for under an action. */
  script.asked = (action) => script.heard.filter((message) => message.action === action);
  script.connect = (options = {}) => {
    const sync = connect(script.url, { secret: "me", WebSocket: WS, retry: { min: 20, max: 100 }, ...options });
    t.after(() => sync.close());
    return sync;
  };
  t.after(() => {
    server.clients.forEach((socket) => socket.terminate());
    server.close();
  });
  return script;
}

/** The rows of keys, as a node says them. */
export const rows = (body) => [body].flat().map(({ entity, id }) => ({ action: "update", body: { entity, id, version: "1", rows: [{ id }] } }));
