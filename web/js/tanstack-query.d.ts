import type { RowOf } from "./types.js";
export type Sync = import("./index.js").Sync;
export type QueryClient = {
    getQueryCache: () => QueryCache;
    setQueryData: (queryKey: any, data: any) => unknown;
    invalidateQueries: (filters: any, options: any) => Promise<void>;
};
export type QueryCache = {
    getAll: () => Query[];
    get: (queryHash: string) => Query | undefined;
    findAll: (filters: any) => Query[];
    subscribe: (listener: (event: any) => void) => () => void;
};
export type Query = {
    queryKey: readonly any[];
    queryHash: string;
    meta?: Record<string, unknown>;
    state: {
        fetchStatus: string;
    };
    setState: (state: any) => void;
};
export type QueryFilters = {
    queryKey?: readonly unknown[];
    exact?: boolean;
    type?: "all" | "active" | "inactive";
    refetchType?: "all" | "active" | "inactive" | "none";
    stale?: boolean;
    fetchStatus?: "fetching" | "paused" | "idle";
    predicate?: (query: any) => boolean;
};
/**
 * The options of a query whose data are the rows of a key. A client that was given to
 * keepCurrent fetches it and keeps it current.
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
 * Invalidates queries whenever a key changes, and when its rows are first known. It is for
 * queries that are fetched by other means. A query that is being fetched at that time may not
 * see the change: its result is shown, and then it is fetched once more, however many changes
 * there were.
 *
 * @param {QueryClient} queries
 * @param {Sync} sync
 * @param {string} entity
 * @param {string | number} id
 * @param {QueryFilters} filters  such as {queryKey: ["orders"]}
 * @returns {() => void} ends that
 */
export declare function invalidateOn(queries: QueryClient, sync: Sync, entity: string, id: string | number, filters: QueryFilters): () => void;
