// The part of the v2 wire (docs/protocol.md) that the client and the hub of its tabs share.

export const PROTOCOL = "entity-sync.v2";

// Close codes after which the node would close the same client again: the client broke the
// protocol, or sent a message that the node does not take. 4500 to 4599 are fatal, too.
export const FATAL_CODES = [1002, 1003, 1007, 1009];

/** The close code of a connection that broke without a close frame. */
export const ABNORMAL_CLOSURE = 1006;

/** The code of a refusal because the node has no place for another key. */
export const TOO_MANY = "too_many_subscriptions";

/**
 * The name of a key or a topic in a Map.
 *
 * @param {{entity?: string, id?: string, topic?: string}} target
 */
export const nameOf = ({ entity, id, topic }) => JSON.stringify(topic === undefined ? [entity, id] : [topic]);

/** @param {string} text */
export const bytesOf = (text) => new TextEncoder().encode(text).length;

// By the node's rules, so that a key that the node refuses is always one that was named.
/** @param {{entity: string, id: string}} key */
export const isKey = ({ entity, id }) =>
  /^[\w.-]{1,64}$/.test(entity) && id !== "" && !/[\0-\x1f\x7f\ud800-\udfff]/u.test(id) && bytesOf(id) <= 255;

/** Why something was refused. `code` is one of the codes in docs/protocol.md. */
export class SyncError extends Error {
  name = "SyncError";

  /**
   * @param {string} code  one of docs/protocol.md's; or `revoked` or `closed` if the
   *   connection was closed for good
   * @param {string} [message]
   * @param {{entity?: string, id?: string, topic?: string, closeCode?: number}} [about]
   */
  constructor(code, message, about = {}) {
    super(message || code);
    this.code = code;
    this.entity = about.entity;
    this.id = about.id;
    this.topic = about.topic;
    /** The WebSocket's close code, if it was closed. */
    this.closeCode = about.closeCode;
  }
}
