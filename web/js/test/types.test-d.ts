// Compiled, never run: what a program in TypeScript may write, and may not.

import { connect, Sync, SyncError, type Options, type State, type Update } from "entity-sync";

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
