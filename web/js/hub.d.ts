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
     * its own
     */
    ref: unknown;
    /**
     * of it
     */
    keys: Named[];
    /**
     * of those the ones that the node was asked about
     */
    asked: Named[];
    /**
     * of those the names of the ones that it has refused
     */
    refused: Set<string>;
    /**
     * that it says
     */
    secret?: string;
    /**
     * places at the node, when that is granted
     */
    freed?: number;
    /**
     * what is to be said before the answer
     */
    before: string[];
    /**
     * and after it
     */
    after: string[];
    /**
     * that the node had said by then
     */
    words: number;
    /**
     * what time that was
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
