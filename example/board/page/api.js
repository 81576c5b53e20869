// Changes go over plain HTTP. Of the answer nothing is shown but an error: the new
// row comes over the socket, here as everywhere else.

/** What to say where an answer is not announced. */
export const notYet = "The other node will hear of it when NSQ is back.";

export class API {
  #network;
  #secret;

  constructor(network, secret) {
    this.#network = network;
    this.#secret = secret;
  }

  add(item) {
    return this.#send("POST", "/api/items", item);
  }

  /** @returns {Promise<{revision: number, announced: boolean}>} */
  change(id, change) {
    return this.#send("PATCH", `/api/items/${encodeURIComponent(id)}`, change);
  }

  delete(id) {
    return this.#send("DELETE", `/api/items/${encodeURIComponent(id)}`);
  }

  /** Starts or stops the bus that the nodes have in common. */
  switchBus(running) {
    return this.#send("PUT", "/api/bus", { running });
  }

  async #send(method, path, body) {
    let response;
    try {
      response = await this.#network.fetch(path, {
        method,
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.#secret}` },
        body: body && JSON.stringify(body),
      });
    } catch {
      throw new Error("the node cannot be reached");
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      throw new Error(answer.error ?? `the node answered ${response.status}`);
    }
    return answer;
  }
}
