// Keys and the connection as stores: as Svelte's readable stores, which Vue and Solid take
// with a line each.

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
export function entityStore(sync, entity, id) {
  return {
    subscribe(run) {
      /** @type {unknown} */
      let shown;
      const show = (/** @type {import("./index.js").Update<RowOf<Entity, Row>>} */ update) => {
        if (shown !== update) {
          shown = update;
          run(update);
        }
      };
      const end = sync.subscribe(entity, id, show);
      show(sync.peek(entity, id));
      return end;
    },
  };
}

/**
 * The connection's state, as a store.
 *
 * @param {import("./index.js").Sync} sync
 * @returns {Readable<import("./index.js").State>}
 */
export function stateStore(sync) {
  return {
    subscribe(run) {
      const end = sync.onState(run);
      run(sync.state);
      return end;
    },
  };
}
