import { SyncError } from "./protocol.js";
import type { Context } from "./callbacks.js";
import type { Options, State } from "./index.js";
export type Renewal = (error?: unknown) => void;
export type Request = {
    /**
     * the keys that the request is about
     */
    entries?: any[];
    /**
     * whether the connection is live when the request is granted
     */
    first?: boolean;
    /**
     * the calls of renew that the answer settles
     */
    renewals?: Renewal[];
};
export type Handlers = {
    /**
     * requests can be sent
     */
    onopen: () => void;
    /**
     * the node has granted a request
     */
    onack: (request: Request) => void;
    /**
     * the node refuses keys of a request
     */
    onerror: (request: Request, body: any) => void;
    /**
     * the node has sent a message about a key
     */
    onmessage: (action: string, body: any) => void;
    /**
     * another tab has given up places at the node
     */
    onroom: (places: number) => void;
    /**
     * the WebSocket is dropped, and with it all open requests
     */
    onclose: () => void;
    /**
     * the state may have changed
     */
    onState: () => void;
};
/** @typedef {(error?: unknown) => void} Renewal  settles a call of renew */
/**
 * A request to the node.
 *
 * @typedef {object} Request
 * @property {any[]} [entries]  the keys that the request is about
 * @property {boolean} [first]  whether the connection is live when the request is granted
 * @property {Renewal[]} [renewals]  the calls of renew that the answer settles
 */
/**
 * The functions that the connection calls, and when.
 *
 * @typedef {object} Handlers
 * @property {() => void} onopen  requests can be sent
 * @property {(request: Request) => void} onack  the node has granted a request
 * @property {(request: Request, body: any) => void} onerror  the node refuses keys of a request
 * @property {(action: string, body: any) => void} onmessage  the node has sent a message about a key
 * @property {(places: number) => void} onroom  another tab has given up places at the node
 * @property {() => void} onclose  the WebSocket is dropped, and with it all open requests
 * @property {() => void} onState  the state may have changed
 */
/** @param {number} ms @param {() => void} callback */
export declare const after: (ms: number, callback: () => void) => number;
export declare class Connection {
    #private;
    /** @type {SyncError | undefined} */
    error: SyncError | undefined;
    /** @type {Map<number, Request>} */
    requests: Map<number, Request>;
    /** @param {string | URL} url @param {Context} context @param {Handlers} handlers */
    constructor(url: string | URL, context: Context, handlers: Handlers);
    start(): void;
    close(): void;
    /** @returns {State} */
    get state(): State;
    /** Whether requests can be sent. */
    get open(): boolean;
    /** @param {(state: State, error?: SyncError) => void} callback */
    onState(callback: (state: State, error?: SyncError) => void): () => undefined;
    /** Sends a message of the application, unless it cannot be sent now. @param {string} text */
    send(text: string): boolean;
    /** @param {string} action @param {string} body  in JSON @param {Request} request */
    request(action: string, body: string, request: Request): void;
    /** @param {Options["secret"]} [secret] @returns {Promise<void>} */
    renew(secret?: Options["secret"]): Promise<void>;
    /** The longest wait after so many failures, in ms. @param {number} failures */
    backoff(failures: number): number;
}
