// Compiled, never run: what a program in TypeScript may write, and may not.

import { connect, Sync, SyncError, type Entities, type Options, type RowOf, type State, type Update } from "entity-sync";
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

// An entity's rows, declared once. Entities that are not declared ("items") have rows
// of any type, unless the call names one.
interface Order {
  id: string;
  total: number;
}

declare module "entity-sync" {
  interface Entities {
    orders: Order;
  }
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const isTrue = <T extends true>() => void (0 as unknown as T);

isTrue<Same<RowOf<"orders">, Order>>();
isTrue<Same<RowOf<"items">, any>>();
isTrue<Same<RowOf<string>, any>>();
isTrue<Same<RowOf<"orders", Item>, Item>>();
isTrue<Same<RowOf<"orders", any>, any>>();

sync.subscribe("orders", 7, ({ row, rows }) => {
  isTrue<Same<typeof row, Order | undefined>>();
  isTrue<Same<typeof rows, readonly Order[] | undefined>>();
  // @ts-expect-error an order has no name
  void row?.name;
});
sync.subscribe("items", 7, ({ row }) => row.whatever);
// @ts-expect-error an order is no item
sync.subscribe("orders", 7, (item: Update<Item>) => void item);
// @ts-expect-error nor when it is asked for
const none: Update<Item> | undefined = sync.get("orders", 7);
isTrue<Same<ReturnType<typeof sync.get<never, "orders">>, Update<Order> | undefined>>();
const peeked: Update<Order> = sync.peek("orders", 7);
isTrue<Same<typeof peeked, Update<Order>>>();
void none;

async function orders() {
  for await (const { row } of sync.watch("orders", 7)) isTrue<Same<typeof row, Order | undefined>>();
}
void orders;

function Orders({ which }: { which: keyof Entities }) {
  const one = useEntity("orders", 7);
  const { rows } = useEntitySuspense("orders", 7);
  const query = useQuery(entityQuery(useSync(), "orders", 7)).data;
  isTrue<Same<typeof one, Update<Order>>>();
  isTrue<Same<typeof rows, readonly Order[]>>();
  isTrue<Same<typeof query, readonly Order[] | undefined>>();
  return useEntity(which, 7).row?.total;
}
createElement(Orders, { which: "orders" });
const order: Readable<Update<Order>> = entityStore(sync, "orders", 7);
derived(order, ($order) => {
  isTrue<Same<typeof $order, Update<Order>>>();
});
