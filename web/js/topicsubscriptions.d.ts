import type { Context } from "./callbacks.js";
import type { Connection } from "./connection.js";
import type { Heard, TopicOptions } from "./topics.js";
export type Listener = TopicOptions & {
    callback: (heard: Heard) => void;
    ended?: () => void;
    told?: string;
};
export declare class TopicSubscriptions {
    #private;
    /** @param {Connection} connection @param {Context} context */
    constructor(connection: Connection, context: Context);
    /** @param {string} topic @param {Listener} listener @returns {() => void} */
    add(topic: string, listener: Listener): () => void;
}
