export type Named = {
    entity?: string;
    id?: string;
    version?: string;
    topic?: string;
    exact?: boolean;
    after?: string;
};
/**
 * A key or a topic in a request.
 *
 * @typedef {{entity?: string, id?: string, version?: string, topic?: string, exact?: boolean, after?: string}} Named
 */
/** A tab. */
export declare class Tab {
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
     * the keys and topics in it
     */
    keys: Named[];
    /**
     * those among them that the node was asked for
     */
    asked: Named[];
    /**
     * the names of those that the node has refused
     */
    refused: Set<string>;
    /**
     * the body of a request that publishes
     */
    publication?: object;
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
    exact?: boolean;
};
/** A message. @param {string} action @param {unknown} body @param {unknown} [ref] */
export declare const say: (action: string, body: unknown, ref?: unknown) => string;
export declare class Watched {
    #private;
    /**
     * @param {Map<number, Request>} requests  those that the node has not answered
     * @param {(tabs: Tab[], message: object) => void} post  sends tabs a message
     */
    constructor(requests: Map<number, Request>, post: (tabs: Tab[], message: object) => void);
    clear(): void;
    /** Forgets all rows: those of another secret are not for tabs that come with this one. */
    forget(): void;
    /**
     * Makes a tab watch the keys of its request, and says in the request which of them the node
     * must be asked for.
     *
     * @param {number} number @param {Request} request
     */
    add(number: number, { tab, keys, asked, after }: Request): void;
    /**
     * Makes a tab not watch the keys of its request any more, and says in the request which of
     * them the node is to be told of.
     *
     * @param {Request} request
     */
    remove(request: Request): void;
    /**
     * Takes a tab out of the keys that others watch, and returns the keys that only this tab
     * watches, by the request that last asked for them.
     *
     * @param {Tab} tab @returns {Named[][]}
     */
    only(tab: Tab): Named[][];
    /** The node has granted a request. @param {number} number @param {Request} request */
    granted(number: number, { tab, keys, asked, refused }: Request): void;
    /**
     * Refuses a key to all tabs that relied on the request by which the node has refused it.
     *
     * @param {number} number @param {Named} named @param {string} code @param {string} message
     */
    deny(number: number, named: Named, code: string, message: string): void;
    /** Ends what a tab has asked for by a request. @param {number} number @param {Tab} tab @param {Named} named */
    leave(number: number, tab: Tab, named: Named): void;
    /** The node has sent rows, or word that there are none, or that a version is the newest. @param {string} action @param {Named} body @param {string} text */
    news(action: string, body: Named, text: string): void;
    /**
     * The node has sent an event, or word that events were missed, of topics: for each tab once.
     *
     * @param {string[]} topics @param {string} text
     */
    heard(topics: string[], text: string): void;
    /** The node has ended a subscription. @param {Named} body @param {string} text @returns {boolean} whether there was one */
    ended(body: Named, text: string): boolean;
}
