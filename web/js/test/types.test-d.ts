// Compiled, never run: what a program in TypeScript may write, and may not.

import { connect, Sync, SyncError, type Options, type State, type Update } from "entity-sync";
import { SyncProvider, preload, useEntity, useEntitySuspense, useSync, useSyncState } from "entity-sync/react";
import { entityStore, stateStore } from "entity-sync/store";
import { entityQuery, invalidateOn, keepCurrent } from "entity-sync/tanstack-query";
import { QueryClient, useQuery } from "@tanstack/react-query";
import { derived, type Readable } from "svelte/store";
import { createElement } from "react";

interface Item {
  id: string;
  name: string;
}

const options: Options = { secret: async () => "token", retry: { min: 1 }, signal: new AbortController().signal };
const sync: Sync = connect("/ws/entity-sync/", options);
connect(new URL("wss://example.org"), { secret: "token" });
connect("/", { secret: () => undefined });

const end: () => void = sync.subscribe<Item>("items", 100, (update) => {
  const rows: readonly Item[] | undefined = update.rows;
  const name: string | undefined = update.row?.name;
  const code: string | undefined = update.error?.code;
  void [rows, name, code];
  // @ts-expect-error an item has no price
  void update.row?.price;
  // @ts-expect-error updates are shared
  update.rows?.push({ id: "1", name: "" });
}, { signal: new AbortController().signal });

const update: Update<Item> | undefined = sync.get<Item>("items", "100");
const state: State = sync.state;
const error: SyncError | undefined = sync.error;
const sent: boolean = sync.send({ hello: 1 });
sync.onState((now: State, why?: SyncError) => void [now, why])();
void [end, update, state, error, sent];

async function loop() {
  for await (const { row } of sync.watch<Item>("items", "100")) {
    const name: string | undefined = row?.name;
    void name;
  }
  await sync.renew();
  await sync.renew(async () => "token");
}
void loop;

// @ts-expect-error there is no such state
const wrong: State = "gone";
// @ts-expect-error a secret is a text
connect("/", { secret: 7 });
// @ts-expect-error messages of one's own are objects
sync.send("text");
// @ts-expect-error the state is not to be set
sync.state = "live";
void wrong;

function Component() {
  const known: Update<Item> = useEntity<Item>("items", 100);
  const rows: readonly Item[] = useEntitySuspense<Item>("items", "100").rows;
  const queried: readonly Item[] | undefined = useQuery(entityQuery<Item>(useSync(), "items", 100)).data;
  return `${useSyncState()} ${known.row?.name} ${rows.length} ${queried?.length}`;
}
createElement(SyncProvider, { sync }, createElement(Component));
const ready: Promise<void> = preload(sync, "items", 100);

const queries = new QueryClient();
const ends: (() => void)[] = [keepCurrent(queries, sync), invalidateOn(queries, sync, "items", 100, { queryKey: ["orders"] })];

const item: Readable<Update<Item>> = entityStore<Item>(sync, "items", 100);
derived([item, stateStore(sync)], ([$item, $state]) => `${$item.row?.name} ${$state}`);
void [ready, ends];
