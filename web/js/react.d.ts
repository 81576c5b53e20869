export type Sync = import("./index.js").Sync;
import type { RowOf } from "./types.js";
/**
 * Gives the components within it a connection. The code that made the connection closes it.
 * Without one, as on a server, which connects to nothing, hooks return `connecting`.
 *
 * @param {{sync: Sync | null, children?: import("react").ReactNode}} props
 * @returns {import("react").ReactElement}
 */
export declare function SyncProvider({ sync, children }: {
    sync: Sync | null;
    children?: import("react").ReactNode;
}): import("react").ReactElement;
/**
 * The connection of the SyncProvider. It throws while that has none.
 *
 * @returns {Sync}
 */
export declare function useSync(): Sync;
/**
 * The connection's state.
 *
 * @returns {import("./index.js").State}
 */
export declare function useSyncState(): import("./index.js").State;
/**
 * Watches a key while the component is there, and returns what is known of it. A hidden
 * component, such as by <Activity>, watches nothing: it keeps the rows it had, as `stale`.
 *
 * @template [Row=never]
 * @template {string} [Entity=string]
 * @param {Entity} entity
 * @param {string | number} id
 * @returns {import("./index.js").Update<RowOf<Entity, Row>>}
 */
export declare function useEntity<Row = never, Entity extends string = string>(entity: Entity, id: string | number): import("./index.js").Update<RowOf<Entity, Row>>;
/**
 * Subscribes to a topic while the component is there. The callback of the last rendering gets
 * each event, and an object without an event in place of events that were missed.
 *
 * @template [Data=any]
 * @param {string} topic
 * @param {(heard: import("./topics.js").Heard<Data>) => void} callback
 * @param {{exact?: boolean, after?: string}} [options]  after counts when the subscription begins
 * @returns {{state: import("./index.js").State, error: import("./index.js").SyncError | undefined}}
 */
export declare function useTopic<Data = any>(topic: string, callback: (heard: import("./topics.js").Heard<Data>) => void, { exact, after }?: {
    exact?: boolean;
    after?: string;
}): {
    state: import("./index.js").State;
    error: import("./index.js").SyncError | undefined;
};
/**
 * useEntity for a component within <Suspense>, which waits there until the rows are
 * known. If the key is denied, it throws the SyncError to the error boundary. On a
 * server it throws, too: <Suspense> shows its fallback, and the page renders the rest.
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
 * Begins to watch a key that a component is about to show, and keeps it for a moment. It is
 * for a link that the mouse points at, for example.
 *
 * @param {Sync} sync
 * @param {string} entity
 * @param {string | number} id
 * @returns {Promise<void>} settles when there is something to show
 */
export declare function preload(sync: Sync, entity: string, id: string | number): Promise<void>;
