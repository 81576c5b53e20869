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
