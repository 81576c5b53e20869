// TanStack Query: pushed rows go into the query cache, and pushed changes make the
// queries that depend on them fetch again. For all of its frameworks.

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
export function entityQuery(sync, entity, id) {
  return {
    queryKey: ["entity-sync", entity, String(id)],
    /** @param {{signal: AbortSignal}} context @returns {Promise<readonly RowOf<Entity, Row>[]>} */
    queryFn: ({ signal }) => first(sync, entity, id, signal),
    meta: { entitySync: { entity, id } },
    staleTime: Infinity, // news are pushed
    retry: false, // the connection does that
    networkMode: /** @type {const} */ ("always"), // and knows better
  };
}

/** @param {Sync} sync @param {string} entity @param {string | number} id @param {AbortSignal} signal */
async function first(sync, entity, id, signal) {
  for await (const { rows, state, error } of sync.watch(entity, id, { signal })) {
    if (state === "denied") {
      throw error;
    }
    if (rows) {
      return rows;
    }
  }
  throw signal.aborted ? signal.reason : new Error("the client is closed");
}

/**
 * Keeps every query made with entityQuery current, for as long as it is in the
 * cache.
 *
 * @param {QueryClient} queries
 * @param {Sync} sync
 * @returns {() => void} ends that
 */
export function keepCurrent(queries, sync) {
  const cache = queries.getQueryCache();
  /** @type {Map<string, () => void>} */
  const watched = new Map();

  /** @param {Query} query */
  const begin = (query) => {
    const key = query.meta?.entitySync;
    if (!key || watched.has(query.queryHash)) {
      return;
    }
    const { entity, id } = /** @type {{entity: string, id: string | number}} */ (key);
    watched.set(query.queryHash, sync.subscribe(entity, id, (update) => show(query, update)));
  };

  /** @param {Query} query @param {import("./index.js").Update | undefined} update */
  const show = (query, update) => {
    if (update?.state === "denied") {
      if (query.state.fetchStatus !== "idle") {
        return; // the fetch is denied as well, and that is heard
      }
      query.setState({ status: "error", error: update.error, data: undefined, fetchStatus: "idle" });
    } else if (update?.rows) {
      queries.setQueryData(query.queryKey, update.rows);
    }
  };

  const end = cache.subscribe(({ type, query, ...event }) => {
    if (type === "added") {
      begin(query);
    } else if (type === "removed") {
      watched.get(query.queryHash)?.();
      watched.delete(query.queryHash);
    } else if (type === "updated" && watched.has(query.queryHash)) {
      // What a fetch brings may be older than what was pushed while it was under way,
      // and one that fails leaves data that may not be seen.
      const action = /** @type {any} */ (event).action;
      const { entity, id } = /** @type {any} */ (query.meta).entitySync;
      if ((action.type === "success" && !action.manual) || action.type === "error") {
        show(query, sync.get(entity, id));
      }
    }
  });
  cache.getAll().forEach(begin);
  return () => {
    end();
    watched.forEach((stop) => stop());
    watched.clear();
  };
}

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
export function invalidateOn(queries, sync, entity, id, filters) {
  /** @type {readonly unknown[] | undefined} */
  let known;
  /** @type {Set<string>} */
  const late = new Set(); // queries whose first fetch may not have seen the newest
  const cache = queries.getQueryCache();
  const report = () => {}; // a query's own error is its observers'

  const end = sync.subscribe(entity, id, ({ rows }) => {
    if (rows === known || !rows) {
      return;
    }
    known = rows;
    for (const query of cache.findAll(filters)) {
      if (query.state.fetchStatus !== "idle" && query.state.data === undefined) {
        late.add(query.queryHash);
      }
    }
    queries.invalidateQueries(filters).catch(report);
  });
  const stop = cache.subscribe(({ type, query, ...event }) => {
    const { action } = /** @type {any} */ (event);
    if (type === "removed") {
      late.delete(query.queryHash);
    } else if (type === "updated" && (action.type === "success" || action.type === "error") && late.delete(query.queryHash)) {
      queueMicrotask(() => queries.invalidateQueries({ queryKey: query.queryKey, exact: true }).catch(report));
    }
  });
  return () => {
    end();
    stop();
  };
}
