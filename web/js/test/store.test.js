import test from "node:test";
import assert from "node:assert/strict";
import { derived, get } from "svelte/store";
import { effectScope, onScopeDispose, shallowRef, watchEffect } from "vue";
import { entityStore, stateStore } from "../store.js";
import { startWorld, until } from "./world.js";

test("Svelte takes keys and the connection as its own stores", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  const item = entityStore(sync, "items", "1");
  const line = derived([item, stateStore(sync)], ([$item, $state]) => `${$item.row?.n} ${$item.state} ${$state}`);
  assert.equal(get(line), "undefined connecting connecting");
  const shown = [];
  const end = line.subscribe((text) => shown.push(text));
  assert.deepEqual(shown, ["undefined connecting connecting"], "at once");
  await until("the row", () => shown.at(-1) === "1 live live");
  assert.equal(get(item).row.n, 1);
  await world.write("1", 2);
  await until("the change", () => shown.at(-1) === "2 live live");
  end();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
  assert.ok(shown.every((text, i) => text !== shown[i - 1]), "nothing twice");
});

test("Vue takes a store with a line", async (t) => {
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  const useStore = (store) => {
    const value = shallowRef();
    onScopeDispose(store.subscribe((now) => { value.value = now; }));
    return value;
  };
  const scope = effectScope();
  const shown = [];
  scope.run(() => {
    const item = useStore(entityStore(sync, "items", "1"));
    watchEffect(() => shown.push(item.value.row?.n), { flush: "sync" });
  });
  await until("the row", () => shown.at(-1) === 1);
  await world.write("1", 2);
  await until("the change", () => shown.at(-1) === 2);
  scope.stop();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
});

test("Solid takes a store with a line", async (t) => {
  const { createRoot, createEffect, from } = await import("../node_modules/solid-js/dist/solid.js"); // not its build for servers
  const world = await startWorld(t);
  await world.write("1", 1);
  const sync = world.connect({ linger: 0 });
  const shown = [];
  const dispose = createRoot((dispose) => {
    const item = from(entityStore(sync, "items", "1"));
    createEffect(() => shown.push(item()?.row?.n));
    return dispose;
  });
  await until("the row", () => shown.at(-1) === 1);
  await world.write("1", 2);
  await until("the change", () => shown.at(-1) === 2);
  dispose();
  await until("nobody watches", async () => (await world.tell("figures")).Subscriptions === 0);
});
