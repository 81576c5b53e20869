export declare class Link {
    #private;
    /**
     * @param {string} url
     * @param {string} protocol
     * @param {(text: string) => void} heard  is called with each message of the node
     * @param {(code: number, reason: string) => void} lost  is called when the socket is closed, unless by drop
     */
    constructor(url: string, protocol: string, heard: (text: string) => void, lost: (code: number, reason: string) => void);
    /** @param {string} text */
    send(text: string): void;
    /** Closes the socket, and forgets what was not sent. */
    drop(): void;
}
