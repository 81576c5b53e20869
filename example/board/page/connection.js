// The socket to Entity Sync: says who we are, watches keys, hands on rows, and
// comes back by itself when the connection is lost.

const firstWait = 250; // ms
const longestWait = 8_000;

// Close codes after which the same client would only be closed again: it broke
// the protocol, or sent what the server does not take.
const hopeless = new Set([1002, 1003, 1007, 1009]);

export class Connection {
  #url;
  #onRow;
  #onState;
  #secret;
  #keys = new Map();
  #socket = null;
  #failures = 0;

  /** When the socket opened: what was written earlier was not sent live. */
  openedAt = Infinity;

  /**
   * @param {{url: string, secret: string, onRow: (row: object) => void,
   *   onState: (state: "connecting" | "live" | "offline") => void}} options
   */
  constructor({ url, secret, onRow, onState }) {
    this.#url = url;
    this.#secret = secret;
    this.#onRow = onRow;
    this.#onState = onState;
  }

  open() {
    this.#onState("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      this.#failures = 0;
      this.openedAt = Date.now();
      this.#sayAll();
      this.#onState("live");
    });
    socket.addEventListener("message", (event) => this.#onRow(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => {
      this.openedAt = Infinity;
      this.#onState("offline");
      if (hopeless.has(event.code)) {
        console.error(`The server will not have us: ${event.code} ${event.reason}`);
        return;
      }
      setTimeout(() => this.open(), this.#wait());
    });
  }

  /** Become somebody else, on the same socket. */
  setSecret(secret) {
    this.#secret = secret;
    this.#sayAll();
  }

  subscribe(entity, id) {
    const key = { entity, id };
    this.#keys.set(JSON.stringify(key), key);
    this.#say("subscribe", { ...key, snapshot: true });
  }

  unsubscribe(entity, id) {
    const key = { entity, id };
    this.#keys.delete(JSON.stringify(key));
    this.#say("unsubscribe", key);
  }

  // The secret and every subscription, each with its row as it is now: after a
  // break nobody knows what was missed, and a new secret sees other rows.
  #sayAll() {
    this.#say("secret", this.#secret);
    for (const key of this.#keys.values()) {
      this.#say("subscribe", { ...key, snapshot: true });
    }
  }

  #say(action, body) {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ action, body }));
    }
  }

  // Full jitter: after a restart the pages do not all come back at once.
  #wait() {
    const most = Math.min(longestWait, firstWait * 2 ** this.#failures);
    this.#failures++;
    return Math.random() * most;
  }
}
