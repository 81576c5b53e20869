export type Named = {
    entity: string;
    id: string;
    version?: string;
};
/** @typedef {{entity: string, id: string, version?: string}} Named  a key in a request */
/** A tab. */
declare class Tab {
    number: number;
    begun: boolean;
    greeted: boolean;
    /** @type {string[]} */
    waiting: string[];
    short: boolean;
    /** @param {number} number */
    constructor(number: number);
}
export type Request = {
    /**
     * the tab's id
     */
    from: string;
    tab: Tab;
    /**
     * the tab's own
     */
    ref: unknown;
    /**
     * the keys in it
     */
    keys: Named[];
    /**
     * the keys among them that the node was asked for
     */
    asked: Named[];
    /**
     * the names of the keys that the node has refused
     */
    refused: Set<string>;
    /**
     * the secret in it
     */
    secret?: string;
    /**
     * places at the node that come free when it is granted
     */
    freed?: number;
    /**
     * messages for the tab before the answer
     */
    before: string[];
    /**
     * messages for the tab after the answer
     */
    after: string[];
    /**
     * how many messages the node had sent when it was made
     */
    words: number;
    /**
     * the time when it was made
     */
    at: number;
};
export type Watcher = {
    number: number;
    by: number;
    version?: string;
};
export declare class Hub {
    #private;
    /**
     * @param {string} room  the channel's name
     * @param {string} url
     * @param {string} protocol
     * @param {(id: string) => Promise<unknown>} gone  settles when a tab is not there any more
     */
    constructor(room: string, url: string, protocol: string, gone: (id: string) => Promise<unknown>);
    close(): void;
}
export {};
