import { Connection } from "./connection.js";
import type { Context } from "./callbacks.js";
import type { Request } from "./request.js";
import type { Update } from "./index.js";
export type Listener = {
    callback: (update: Update) => void;
    ended?: () => void;
    seen?: Update;
};
export declare class Subscriptions {
    #private;
    connection: Connection;
    /** @param {string | URL} url @param {Context} context */
    constructor(url: string | URL, context: Context);
    /** @param {string} entity @param {string | number} id @returns {Update | undefined} */
    get(entity: string, id: string | number): Update | undefined;
    /** @param {string} entity @param {string | number} id */
    peek(entity: string, id: string | number): Update;
    /**
     * @param {string} entity
     * @param {string | number} id
     * @param {AbortSignal | undefined} signal
     * @param {(update: Update) => void} callback
     * @param {() => void} [ended]  is called as soon as no further update will come
     * @returns {() => void} ends the calls
     */
    add(entity: string, id: string | number, signal: AbortSignal | undefined, callback: (update: Update) => void, ended?: () => void): () => void;
    close(): void;
    onState(): void;
    onopen(): void;
    onclose(): void;
    /** @param {number} places */
    onroom(places: number): void;
    /** @param {string} action @param {any} body */
    onmessage(action: string, body: any): void;
    /** @param {Request} request */
    onack(request: Request): void;
    /**
     * @param {Request} request
     * @param {{code: string, message: string, entity?: string, id?: string, index?: number}} body
     */
    onerror(request: Request, { code, message, entity, id, index }: {
        code: string;
        message: string;
        entity?: string;
        id?: string;
        index?: number;
    }): void;
}
