export type Readable<T> = {
    /**
     * calls run at once,
     * and with every new value until what it returns is called
     */
    subscribe: (run: (value: T) => void) => () => void;
};
/**
 * @template T
 * @typedef {object} Readable
 * @property {(run: (value: T) => void) => () => void} subscribe  calls run at once,
 *   and with every new value until what it returns is called
 */
/**
 * What is known of a key, as a store. The key is watched while somebody subscribes.
 *
 * @template [Row=any]
 * @param {import("./index.js").Sync} sync
 * @param {string} entity
 * @param {string | number} id
 * @returns {Readable<import("./index.js").Update<Row>>}
 */
export declare function entityStore<Row = any>(sync: import("./index.js").Sync, entity: string, id: string | number): Readable<import("./index.js").Update<Row>>;
/**
 * What the connection is like, as a store.
 *
 * @param {import("./index.js").Sync} sync
 * @returns {Readable<import("./index.js").State>}
 */
export declare function stateStore(sync: import("./index.js").Sync): Readable<import("./index.js").State>;
