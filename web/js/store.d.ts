import type { RowOf } from "./types.js";
export type Readable<T> = {
    /**
     * calls run at once, and with
     * every new value until the function that it returns is called
     */
    subscribe: (run: (value: T) => void) => () => void;
};
/** @import { RowOf } from "./types.js" */
/**
 * @template T
 * @typedef {object} Readable
 * @property {(run: (value: T) => void) => () => void} subscribe  calls run at once, and with
 *   every new value until the function that it returns is called
 */
/**
 * What is known of a key, as a store. The key is watched while the store has a subscriber.
 *
 * @template [Row=never]
 * @template {string} [Entity=string]
 * @param {import("./index.js").Sync} sync
 * @param {Entity} entity
 * @param {string | number} id
 * @returns {Readable<import("./index.js").Update<RowOf<Entity, Row>>>}
 */
export declare function entityStore<Row = never, Entity extends string = string>(sync: import("./index.js").Sync, entity: Entity, id: string | number): Readable<import("./index.js").Update<RowOf<Entity, Row>>>;
/**
 * The connection's state, as a store.
 *
 * @param {import("./index.js").Sync} sync
 * @returns {Readable<import("./index.js").State>}
 */
export declare function stateStore(sync: import("./index.js").Sync): Readable<import("./index.js").State>;
