package outbox

import "context"

// EnableWakeUp has every write to the outbox wake the relays that listen (see
// Config.Listen), with a trigger that issues NOTIFY. Doing it again changes nothing.
//
// It has a price for every program that writes to the outbox. When a transaction that has
// issued NOTIFY commits, PostgreSQL takes one lock for the whole cluster of databases, so that
// such commits go one after another.
func EnableWakeUp(ctx context.Context, conn Beginner) error {
	return inTx(ctx, conn, "enabling the wake-up", `do $$ begin
		if not `+wakesUp+` then
			perform pg_advisory_xact_lock(7311416104537220975);
			drop trigger if exists entity_sync_wake_up on entity_sync_outbox;
			create trigger entity_sync_wake_up after insert on entity_sync_outbox
				for each statement execute function entity_sync_wake_up();
		end if;
	end $$`)
}

// DisableWakeUp undoes EnableWakeUp.
func DisableWakeUp(ctx context.Context, conn Beginner) error {
	return inTx(ctx, conn, "disabling the wake-up", `do $$ begin
		if `+wakesUp+` then
			perform pg_advisory_xact_lock(7311416104537220975);
			drop trigger if exists entity_sync_wake_up on entity_sync_outbox;
		end if;
	end $$`)
}

const wakesUp = `exists (select from pg_trigger
	where tgrelid = to_regclass('entity_sync_outbox') and tgname = 'entity_sync_wake_up' and tgenabled <> 'D')`
