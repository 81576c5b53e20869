import { SyncError } from "./protocol.js";
import type { Context } from "./callbacks.js";
import type { Options, State } from "./index.js";
import type { Handlers, Request } from "./request.js";
/** @import { Context } from "./callbacks.js" */
/** @import { Options, Secret, State } from "./index.js" */
/** @import { Handlers, Renewal, Request } from "./request.js" */
/** The connection of each client, for modules that do more with it. @type {WeakMap<object, {connection: Connection, context: Context}>} */
export declare const connections: WeakMap<object, {
    connection: Connection;
    context: Context;
}>;
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
    /** Has further handlers called, after those that there are. @param {Partial<Handlers>} handlers */
    extend(handlers: Partial<Handlers>): void;
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
