export type Sync = import("./index.js").Sync;
import type { RowOf } from "./types.js";
/**
 * Gives the components within a connection. Whoever made it closes it.
 *
 * @param {{sync: Sync, children?: import("react").ReactNode}} props
 */
export declare function SyncProvider({ sync, children }: {
    sync: Sync;
    children?: import("react").ReactNode;
}): import("react").FunctionComponentElement<import("react").ProviderProps<import("./index.js").Sync | null>>;
/**
 * The connection that SyncProvider gives.
 *
 * @returns {Sync}
 */
export declare function useSync(): Sync;
/**
 * What the connection is like.
 *
 * @returns {import("./index.js").State}
 */
export declare function useSyncState(): import("./index.js").State;
/**
 * Watches a key while the component is there, and returns what is known of it.
 *
 * @template [Row=never]
 * @template {string} [Entity=string]
 * @param {Entity} entity
 * @param {string | number} id
 * @returns {import("./index.js").Update<RowOf<Entity, Row>>}
 */
export declare function useEntity<Row = never, Entity extends string = string>(entity: Entity, id: string | number): import("./index.js").Update<RowOf<Entity, Row>>;
/**
 * useEntity for a component within <Suspense>, which waits there until the rows are
 * known. If the key is denied, it throws the SyncError to the error boundary.
 *
 * @template [Row=never]
 * @template {string} [Entity=string]
 * @param {Entity} entity
 * @param {string | number} id
 * @returns {import("./index.js").Update<RowOf<Entity, Row>> & {rows: readonly RowOf<Entity, Row>[]}}
 */
export declare function useEntitySuspense<Row = never, Entity extends string = string>(entity: Entity, id: string | number): import("./index.js").Update<RowOf<Entity, Row>> & {
    rows: readonly RowOf<Entity, Row>[];
};
/**
 * Begins to watch a key that a component is about to show, and keeps it for a moment:
 * such as from a link that is being pointed at.
 *
 * @param {Sync} sync
 * @param {string} entity
 * @param {string | number} id
 * @returns {Promise<void>} settles when there is something to show
 */
export declare function preload(sync: Sync, entity: string, id: string | number): Promise<void>;
