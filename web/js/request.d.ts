import type { SyncError } from "./protocol.js";
export type Renewal = (error?: unknown) => void;
export type Request = {
    /**
     * the keys that the request is about: of those that are refused onerror is told
     */
    entries?: any[];
    /**
     * the topics, likewise
     */
    topics?: any[];
    /**
     * whether the connection is live when the request is granted
     */
    first?: boolean;
    /**
     * is called with the answer, or when there will be none
     */
    answered?: (error?: SyncError) => void;
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
     * the node refuses keys or topics of a request, or all of it
     */
    onerror: (request: Request, body: any) => void;
    /**
     * the node has sent a message about a key or a topic
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
/** @import { SyncError } from "./protocol.js" */
/** @typedef {(error?: unknown) => void} Renewal  settles a call of renew */
/**
 * A request to the node.
 *
 * @typedef {object} Request
 * @property {any[]} [entries]  the keys that the request is about: of those that are refused onerror is told
 * @property {any[]} [topics]  the topics, likewise
 * @property {boolean} [first]  whether the connection is live when the request is granted
 * @property {(error?: SyncError) => void} [answered]  is called with the answer, or when there will be none
 * @property {Renewal[]} [renewals]  the calls of renew that the answer settles
 */
/**
 * The functions that the connection calls, and when.
 *
 * @typedef {object} Handlers
 * @property {() => void} onopen  requests can be sent
 * @property {(request: Request) => void} onack  the node has granted a request
 * @property {(request: Request, body: any) => void} onerror  the node refuses keys or topics of a request, or all of it
 * @property {(action: string, body: any) => void} onmessage  the node has sent a message about a key or a topic
 * @property {(places: number) => void} onroom  another tab has given up places at the node
 * @property {() => void} onclose  the WebSocket is dropped, and with it all open requests
 * @property {() => void} onState  the state may have changed
 */
/** @param {Renewal[] | undefined} renewals @param {unknown} [error] */
export declare const settle: (renewals: Renewal[] | undefined, error?: unknown) => void | undefined;
