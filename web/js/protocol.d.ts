export declare const PROTOCOL = "entity-sync.v2";
export declare const FATAL_CODES: number[];
/** The close code of a connection that broke without a close frame. */
export declare const ABNORMAL_CLOSURE = 1006;
/** The code of a refusal because the node has no place for another key. */
export declare const TOO_MANY = "too_many_subscriptions";
/**
 * The name of a key or a topic in a Map.
 *
 * @param {{entity?: string, id?: string, topic?: string}} target
 */
export declare const nameOf: ({ entity, id, topic }: {
    entity?: string;
    id?: string;
    topic?: string;
}) => string;
/** @param {string} text */
export declare const bytesOf: (text: string) => number;
/** @param {{entity: string, id: string}} key */
export declare const isKey: ({ entity, id }: {
    entity: string;
    id: string;
}) => boolean;
/** Why something was refused. `code` is one of the codes in docs/protocol.md. */
export declare class SyncError extends Error {
    code: string;
    entity: string | undefined;
    id: string | undefined;
    topic: string | undefined;
    /** The WebSocket's close code, if it was closed. */
    closeCode: number | undefined;
    name: string;
    /**
     * @param {string} code  one of docs/protocol.md's; or `revoked` or `closed` if the
     *   connection was closed for good
     * @param {string} [message]
     * @param {{entity?: string, id?: string, topic?: string, closeCode?: number}} [about]
     */
    constructor(code: string, message?: string, about?: {
        entity?: string;
        id?: string;
        topic?: string;
        closeCode?: number;
    });
}
