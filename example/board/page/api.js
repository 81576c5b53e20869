// Changes go over plain HTTP. Nothing of the answer is shown but an error: the
// new row comes over the socket, here as everywhere else.

export class API {
  #secret;

  constructor(secret) {
    this.#secret = secret;
  }

  setSecret(secret) {
    this.#secret = secret;
  }

  add(item) {
    return this.#send("POST", "/api/items", item);
  }

  change(id, change) {
    return this.#send("PATCH", `/api/items/${encodeURIComponent(id)}`, change);
  }

  delete(id) {
    return this.#send("DELETE", `/api/items/${encodeURIComponent(id)}`);
  }

  async #send(method, path, body) {
    let response;
    try {
      response = await fetch(path, {
        method,
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.#secret}` },
        body: body && JSON.stringify(body),
      });
    } catch {
      throw new Error("the node cannot be reached; nothing was saved");
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      throw new Error(answer.error ?? `the node answered ${response.status}`);
    }
    return answer;
  }
}
