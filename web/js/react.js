"use client";

// React: a component that uses a key is rendered anew whenever it changes.

import {
  createContext, createElement, useContext, useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState, useSyncExternalStore,
} from "react";
import { topics } from "./topics.js";

/** @typedef {import("./index.js").Sync} Sync */
/** @import { Update } from "./index.js" */
/** @import { RowOf } from "./types.js" */

const Context = createContext(/** @type {{sync: Sync | null, waiting: (() => void)[]} | undefined} */ (undefined));

/**
 * Gives the components within it a connection. The code that made the connection closes it.
 * Without one, as on a server, which connects to nothing, hooks return `connecting`.
 *
 * @param {{sync: Sync | null, children?: import("react").ReactNode}} props
 * @returns {import("react").ReactElement}
 */
export function SyncProvider({ sync, children }) {
  const [waiting] = useState(() => /** @type {(() => void)[]} */ ([])); // components in <Suspense>
  const value = useMemo(() => ({ sync, waiting }), [sync, waiting]);
  useEffect(() => {
    if (sync) {
      waiting.splice(0).forEach((wake) => wake());
    }
  });
  return createElement(Context.Provider, { value }, children);
}

function useProvided() {
  const provided = useContext(Context);
  if (!provided) {
    throw new Error("there is no <SyncProvider> around this component");
  }
  return provided;
}

/**
 * The connection of the SyncProvider. It throws while that has none.
 *
 * @returns {Sync}
 */
export function useSync() {
  const { sync } = useProvided();
  if (!sync) {
    throw new Error("the <SyncProvider> around this component has no connection yet");
  }
  return sync;
}

// Hidden components have no effects, and may be shown again without being rendered.
const useEarly = typeof window === "undefined" ? useEffect : useLayoutEffect;

/**
 * @template T
 * @param {object} store
 * @param {(changed: () => void) => () => void} store.watch
 * @param {() => T} store.get
 * @param {() => T} store.first  the value on a server, and at first on the page that takes over from it
 * @param {() => void} [store.show]  the component is shown from now on
 */
function useStore(store) {
  const [, render] = useReducer((/** @type {number} */ n) => n + 1, 0);
  const value = useSyncExternalStore(store.watch, store.get, store.first);
  useEarly(() => {
    store.show?.();
    if (value !== store.get()) {
      render(); // before it is painted
    }
  });
  return value;
}

const nothing = () => {};

/**
 * The connection's state.
 *
 * @returns {import("./index.js").State}
 */
export function useSyncState() {
  const { sync } = useProvided();
  const store = useMemo(() => {
    const first = () => /** @type {import("./index.js").State} */ ("connecting");
    return {
      watch: (/** @type {() => void} */ changed) => sync?.onState(changed) ?? nothing,
      get: () => sync?.state ?? first(),
      first,
    };
  }, [sync]);
  return useStore(store);
}

/** The rows of a key that a component shows: the newest known, and `live` only while it watches. */
class Shown {
  #sync;
  #entity;
  #id;
  #hidden = false; // no subscription tells the component of changes
  /** @type {Update | undefined} */
  #known = undefined;
  /** @type {Update} */
  #shown;

  /** @param {Sync | null} sync @param {string} entity @param {string | number} id */
  constructor(sync, entity, id) {
    this.#sync = sync;
    this.#entity = entity;
    this.#id = id;
    /** @type {Update} */
    const first = Object.freeze({
      entity, id: String(id), rows: undefined, row: undefined, version: undefined, state: "connecting", error: undefined,
    });
    this.#shown = first;
    this.first = () => first;
  }

  show = () => {
    this.#hidden = false;
  };

  /** @param {() => void} changed */
  watch = (changed) => {
    const end = this.#sync?.subscribe(this.#entity, this.#id, changed);
    this.#hidden = false;
    return () => {
      end?.();
      this.#hidden = true;
      queueMicrotask(() => this.#hidden && changed()); // StrictMode hides for a shorter time
    };
  };

  get = () => {
    const shown = this.#shown;
    const next = this.#sync ? this.#next(this.#sync) : shown;
    if (shown.state !== next.state || shown.rows !== next.rows || shown.version !== next.version || shown.error !== next.error) {
      this.#shown = next;
    }
    return this.#shown; // the same object until there is a change
  };

  /** @param {Sync} sync @returns {Update} */
  #next(sync) {
    const now = sync.peek(this.#entity, this.#id);
    if (now.rows || now.state === "denied") {
      this.#known = now.rows && now; // denied rows may not be seen any more
    }
    const { state, error } = now;
    const known = this.#known ?? now;
    const current = state === "live" && !this.#hidden;
    const honest = known.rows && !current && state !== "offline" ? "stale" : state;
    return known === now && honest === state ? now : Object.freeze({ ...known, state: honest, error });
  }
}

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
export function useEntity(entity, id) {
  const { sync } = useProvided();
  return useStore(useMemo(() => new Shown(sync, entity, id), [sync, entity, id]));
}

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
export function useTopic(topic, callback, { exact = false, after } = {}) {
  const { sync } = useProvided();
  const newest = useRef(callback);
  const [shown, show] = useState(/** @type {{state: import("./index.js").State, error: any}} */ ({ state: "connecting", error: undefined }));
  useEarly(() => {
    newest.current = callback;
  });
  useEffect(() => sync ? topics(sync).subscribe(topic, (heard) => newest.current(heard), {
    exact, after, onState: (state, error) => show({ state, error }),
  }) : undefined, [sync, topic, exact]);
  return shown;
}

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
export function useEntitySuspense(entity, id) {
  const { sync, waiting } = useProvided();
  const update = useEntity(entity, id);
  const elsewhere = useSyncExternalStore(() => nothing, () => false, () => true);
  if (update.state === "denied") {
    throw update.error;
  }
  if (!update.rows) {
    if (elsewhere) { // React then renders the content of <Suspense> on the page
      throw new Error("what is in the rows is known in the page alone");
    }
    if (!sync) {
      throw new Promise((resolve) => waiting.push(() => resolve(undefined)));
    }
    throw sync.closed ? new Error("the client is closed") : preload(sync, entity, id);
  }
  return /** @type {any} */ (update);
}

// A component that waits has no effects, so this module watches its key until it is there: for
// WAIT while the first rows come, and then for HOLD until the component is rendered. React may
// discard it in between, and does not say so.
const WAIT = 60_000;
const HOLD = 5_000;

/** @type {WeakMap<Sync, Map<string, Promise<void>>>} */
const loading = new WeakMap();

/**
 * Begins to watch a key that a component is about to show, and keeps it for a moment. It is
 * for a link that the mouse points at, for example.
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
