import type { RowOf } from "./types.js";
export type Sync = import("./index.js").Sync;
export type QueryClient = import("@tanstack/query-core").QueryClient;
export type Query = import("@tanstack/query-core").Query<any, any, any, any>;
/** @import { RowOf } from "./types.js" */
/**
 * @typedef {import("./index.js").Sync} Sync
 * @typedef {import("@tanstack/query-core").QueryClient} QueryClient
 * @typedef {import("@tanstack/query-core").Query<any, any, any, any>} Query
 */
/**
 * The options of a query whose data are the rows of a key. It is fetched and kept
 * current by a client that was given to keepCurrent.
 *
 * @template [Row=never]
 * @template {string} [Entity=string]
 * @param {Sync} sync
 * @param {Entity} entity
 * @param {string | number} id
 */
export declare function entityQuery<Row = never, Entity extends string = string>(sync: Sync, entity: Entity, id: string | number): {
    queryKey: string[];
    /** @param {{signal: AbortSignal}} context @returns {Promise<readonly RowOf<Entity, Row>[]>} */
    queryFn: ({ signal }: {
        signal: AbortSignal;
    }) => Promise<readonly RowOf<Entity, Row>[]>;
    meta: {
        entitySync: {
            entity: Entity;
            id: string | number;
        };
    };
    staleTime: number;
    retry: boolean;
    networkMode: "always";
};
/**
 * Keeps every query made with entityQuery current, for as long as it is in the
 * cache.
 *
 * @param {QueryClient} queries
 * @param {Sync} sync
 * @returns {() => void} ends that
 */
export declare function keepCurrent(queries: QueryClient, sync: Sync): () => void;
/**
 * Invalidates queries whenever a key changes, and when its rows are first known: for
 * queries that are fetched by other means. A change that comes while a query is
 * fetched for the first time, of which TanStack Query makes nothing, makes it fetch
 * again when that is done.
 *
 * @param {QueryClient} queries
 * @param {Sync} sync
 * @param {string} entity
 * @param {string | number} id
 * @param {import("@tanstack/query-core").QueryFilters} filters  such as {queryKey: ["orders"]}
 * @returns {() => void} ends that
 */
export declare function invalidateOn(queries: QueryClient, sync: Sync, entity: string, id: string | number, filters: import("@tanstack/query-core").QueryFilters): () => void;
