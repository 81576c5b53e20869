// The WebSocket of a hub. It is opened when the first message is sent.

import { ABNORMAL_CLOSURE } from "./protocol.js";

export class Link {
  #url;
  #protocol;
  #heard;
  #lost;
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {string[]} */
  #unsent = []; // until the socket is open

  /**
   * @param {string} url
   * @param {string} protocol
   * @param {(text: string) => void} heard  is called with each message of the node
   * @param {(code: number, reason: string) => void} lost  is called when the socket is closed, unless by drop
   */
  constructor(url, protocol, heard, lost) {
    this.#url = url;
    this.#protocol = protocol;
    this.#heard = heard;
    this.#lost = lost;
  }

  /** @param {string} text */
  send(text) {
    if (this.#socket?.readyState === 1) {
      this.#socket.send(text);
    } else {
      this.#unsent.push(text);
      this.#connect();
    }
  }

  /** Closes the socket, and forgets what was not sent. */
  drop() {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.#unsent = [];
  }

  #connect() {
    if (this.#socket) {
      return;
    }
    try {
      const socket = this.#socket = new WebSocket(this.#url, this.#protocol);
      socket.onopen = () => this.#unsent.splice(0).forEach((text) => socket.send(text));
      socket.onmessage = ({ data }) => this.#heard(data);
      socket.onclose = ({ code, reason }) => this.#lost(code, reason);
      socket.onerror = () => {}; // onclose is called, too
    } catch { // the page may not connect to this URL
      this.#lost(ABNORMAL_CLOSURE, "");
    }
  }
}
