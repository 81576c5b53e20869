// React: a component that uses a key is rendered anew whenever it changes.

import { createContext, createElement, useCallback, useContext, useMemo, useSyncExternalStore } from "react";

/** @typedef {import("./index.js").Sync} Sync */
/** @import { RowOf } from "./types.js" */

const Context = createContext(/** @type {Sync | null} */ (null));

/**
 * Gives the components within a connection. Whoever made it closes it.
 *
 * @param {{sync: Sync, children?: import("react").ReactNode}} props
 */
export function SyncProvider({ sync, children }) {
  return createElement(Context.Provider, { value: sync }, children);
}

/**
 * The connection that SyncProvider gives.
 *
 * @returns {Sync}
 */
export function useSync() {
  const sync = useContext(Context);
  if (!sync) {
    throw new Error("there is no <SyncProvider> around this component");
  }
  return sync;
}

/**
 * What the connection is like.
 *
 * @returns {import("./index.js").State}
 */
export function useSyncState() {
  const sync = useSync();
  const watch = useCallback((/** @type {() => void} */ changed) => sync.onState(changed), [sync]);
  return useSyncExternalStore(watch, () => sync.state, () => "connecting");
}

/**
 * Watches a key while the component is there, and returns what is known of it.
 *
 * @template [Row=never]
 * @template {string} [Entity=string]
 * @param {Entity} entity
 * @param {string | number} id
 * @returns {import("./index.js").Update<RowOf<Entity, Row>>}
 */
export function useEntity(entity, id) {
  const sync = useSync();
  const watch = useCallback((/** @type {() => void} */ changed) => sync.subscribe(entity, id, changed), [sync, entity, id]);
  // Before the component is there nobody may watch the key yet: it is the same
  // answer until then, or React would take it for a change.
  const before = useMemo(() => sync.peek(entity, id), [sync, entity, id]);
  return useSyncExternalStore(watch, () => sync.get(entity, id) ?? before, () => before);
}

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
export function useEntitySuspense(entity, id) {
  const sync = useSync();
  const update = useEntity(entity, id);
  if (update.state === "denied") {
    throw update.error;
  }
  if (!update.rows) {
    throw sync.closed ? new Error("the client is closed") : preload(sync, entity, id);
  }
  return /** @type {any} */ (update);
}

// A component that waits has no effects, so somebody must watch its key until it is
// there: for as long as the first rows may take, and then for as long as it may take
// to be rendered. In between it may be thrown away, and nobody says so.
const WAIT = 60_000;
const HOLD = 5_000;

/** @type {WeakMap<Sync, Map<string, Promise<void>>>} */
const loading = new WeakMap();

/**
 * Begins to watch a key that a component is about to show, and keeps it for a moment:
 * such as from a link that is being pointed at.
 *
 * @param {Sync} sync
 * @param {string} entity
 * @param {string | number} id
 * @returns {Promise<void>} settles when there is something to show
 */
export function preload(sync, entity, id) {
  const name = JSON.stringify([entity, String(id)]);
  const all = loading.get(sync) ?? new Map();
  loading.set(sync, all);
  let promise = all.get(name);
  if (!promise) {
    promise = new Promise((resolve) => {
      load(sync, entity, id, () => resolve(undefined)).then(() => {
        all.delete(name);
        resolve(undefined);
      });
    });
    all.set(name, promise);
  }
  return promise;
}

/** @param {Sync} sync @param {string} entity @param {string | number} id @param {() => void} ready */
async function load(sync, entity, id, ready) {
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), WAIT);
  let waits = true;
  for await (const { rows, state } of sync.watch(entity, id, { signal: stop.signal })) {
    if (waits && (rows || state === "denied")) {
      waits = false;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), HOLD);
      ready();
    }
  }
  clearTimeout(timer);
}
