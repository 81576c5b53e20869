// A switch between this page and the network, to see what being offline is like. It
// belongs to the demonstration: a page of yours needs nothing of it.

export class Network {
  #on = true;
  #sockets = new Set();

  /** Cuts every connection and lets none be made, or mends it. */
  switch(on) {
    this.#on = on;
    if (on) {
      dispatchEvent(new Event("online")); // as the browser says, and the client need not wait
    } else {
      this.#sockets.forEach(broken);
    }
  }

  /** For connect's option WebSocket. */
  get WebSocket() {
    const network = this;
    return class {
      constructor(url, protocol) {
        if (!network.#on) {
          queueMicrotask(() => broken(this));
          return;
        }
        const socket = new WebSocket(url, protocol);
        network.#sockets.add(socket);
        socket.addEventListener("close", () => network.#sockets.delete(socket));
        return socket;
      }

      close() {}
    };
  }

  /** For fetch. */
  async fetch(...request) {
    if (!this.#on) {
      throw new TypeError("this page is offline");
    }
    return fetch(...request);
  }
}

// Breaks a connection as a cut cable would: nobody says goodbye.
function broken(socket) {
  socket.onclose?.({ code: 1006, reason: "" });
  socket.close();
}
