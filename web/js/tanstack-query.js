// TanStack Query: pushed rows go into the query cache, and pushed changes make the
// queries that depend on them fetch again. For all of its frameworks.

/** @import { RowOf } from "./types.js" */

/** @typedef {import("./index.js").Sync} Sync */

// TanStack Query's own types are in a package that a program need not be able to name: the
// program has the package of its framework, and pnpm lets it see no other.

/**
 * The part of a QueryClient that is used, of any framework.
 *
 * @typedef {object} QueryClient
 * @property {() => QueryCache} getQueryCache
 * @property {(queryKey: any, data: any) => unknown} setQueryData
 * @property {(filters: any, options: any) => Promise<void>} invalidateQueries
 */

/**
 * @typedef {object} QueryCache
 * @property {() => Query[]} getAll
 * @property {(queryHash: string) => Query | undefined} get
 * @property {(filters: any) => Query[]} findAll
 * @property {(listener: (event: any) => void) => () => void} subscribe
 */

/**
 * @typedef {object} Query
 * @property {readonly any[]} queryKey
 * @property {string} queryHash
 * @property {Record<string, unknown>} [meta]
 * @property {{fetchStatus: string}} state
 * @property {(state: any) => void} setState
 */

/**
 * Selects queries: TanStack Query's own filters.
 *
 * @typedef {object} QueryFilters
 * @property {readonly unknown[]} [queryKey]
 * @property {boolean} [exact]
 * @property {"all" | "active" | "inactive"} [type]
 * @property {"all" | "active" | "inactive" | "none"} [refetchType]
 * @property {boolean} [stale]
 * @property {"fetching" | "paused" | "idle"} [fetchStatus]
 * @property {(query: any) => boolean} [predicate]
 */

const NAME = "entity-sync"; // the first element of a query's key

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
export function entityQuery(sync, entity, id) {
  return {
    queryKey: [NAME, entity, String(id)],
    /** @param {{signal: AbortSignal}} context @returns {Promise<readonly RowOf<Entity, Row>[]>} */
    queryFn: ({ signal }) => first(sync, entity, id, signal),
    meta: { entitySync: { entity, id } },
    staleTime: Infinity, // changes are pushed
    retry: false, // the connection retries
    networkMode: /** @type {const} */ ("always"), // the connection knows better whether it is online
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
 * The key whose rows a query holds. A query that was filled before it was asked for, such as
 * from a persisted cache, has the key in its queryKey alone.
 *
 * @param {Query} query
 * @returns {{entity: string, id: string | number} | undefined}
 */
function keyOf({ meta, queryKey }) {
  const [name, entity, id] = queryKey;
  return /** @type {any} */ (meta?.entitySync) ?? (name === NAME && id !== undefined ? { entity, id } : undefined);
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
  /** @type {Map<string, {end: () => void, newest: () => import("./index.js").Update | undefined}>} */
  const watched = new Map();

  /** @param {Query} query */
  const begin = (query) => {
    const key = keyOf(query);
    if (key && !watched.has(query.queryHash) && cache.get(query.queryHash) === query) {
      const { entity, id } = key;
      const end = sync.subscribe(entity, id, (update) => show(query, update));
      watched.set(query.queryHash, { end, newest: () => sync.get(entity, id) });
    }
  };

  /** @param {Query} query @param {import("./index.js").Update | undefined} update */
  const show = (query, update) => {
    if (update?.state === "denied") {
      if (query.state.fetchStatus !== "idle") {
        return; // the fetch is denied as well, and reports that
      }
      query.setState({ status: "error", error: update.error, data: undefined, fetchStatus: "idle" });
    } else if (update?.rows) {
      queries.setQueryData(query.queryKey, update.rows);
    }
  };

  const end = cache.subscribe(({ type, query, action }) => {
    if (type === "removed") {
      watched.get(query.queryHash)?.end();
      watched.delete(query.queryHash);
      return;
    }
    begin(query); // at any event: a query's meta may come later than the query
    // A fetch may bring older rows than were pushed while it was under way. A fetch that
    // fails leaves data that may not be seen any more.
    if (type === "updated" && ((action.type === "success" && !action.manual) || action.type === "error")) {
      show(query, watched.get(query.queryHash)?.newest());
    }
  });
  cache.getAll().forEach(begin);
  return () => {
    end();
    watched.forEach(({ end }) => end());
    watched.clear();
  };
}

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
export function invalidateOn(queries, sync, entity, id, filters) {
  /** @type {readonly unknown[] | undefined} */
  let known;
  /** @type {Set<string>} */
  const late = new Set(); // queries whose fetch may not have seen the newest
  const cache = queries.getQueryCache();
  const report = () => {}; // a query reports its own error to its observers
  // A fetch under way is not begun again: if changes came quicker than a fetch, no result
  // would ever be shown.
  const invalidate = (/** @type {QueryFilters} */ which) => queries.invalidateQueries(which, { cancelRefetch: false }).catch(report);

  const end = sync.subscribe(entity, id, ({ rows }) => {
    if (rows === known || !rows) {
      return;
    }
    known = rows;
    for (const query of cache.findAll(filters)) {
      if (query.state.fetchStatus !== "idle") {
        late.add(query.queryHash);
      }
    }
    invalidate(filters);
  });
  const stop = cache.subscribe(({ type, query }) => {
    if (type === "removed") {
      late.delete(query.queryHash);
    } else if (query.state.fetchStatus === "idle" && late.delete(query.queryHash)) { // it is done, failed or cancelled
      const { queryKey } = query;
      queueMicrotask(() => invalidate({ queryKey, exact: true, refetchType: filters.refetchType ?? filters.type }));
    }
  });
  return () => {
    end();
    stop();
  };
}
