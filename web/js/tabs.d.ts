/**
 * A WebSocket for the option `WebSocket` of connect, which the tabs of this origin
 * share. In a browser that does not support that, it is the ordinary one.
 *
 * @param {string} name  of the tabs that may share it: everything that one tab is sent, the
 *   others could see, so it should name the person that the secret stands for
 * @returns {new (url: string, protocol: string) => any}
 */
export declare function acrossTabs(name: string): new (url: string, protocol: string) => any;
