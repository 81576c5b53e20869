package outbox

import "context"

// EnableWakeUp has every write to the outbox wake the relays that listen (see
// Config.Listen), with a trigger that issues NOTIFY. Doing it again changes nothing.
//
// It has a price for every program that writes to the outbox. When a transaction that has
// issued NOTIFY commits, PostgreSQL takes one lock for the whole cluster of databases, so that
// such commits go one after another.
func EnableWakeUp(ctx context.Context, conn Beginner) error {
	return inTx(ctx, conn, "enabling the wake-up", `do $$
declare
	part text;
begin
	if `+wakesUp+` then
		return;
	end if;
	perform pg_advisory_xact_lock(7311416104537220975);
	foreach part in array array['entity_sync_outbox', 'entity_sync_outbox_events'] loop
		continue when part = 'entity_sync_outbox_events' and to_regclass(part) is null; -- an older version made the outbox
		execute format('drop trigger if exists entity_sync_wake_up on %s', part);
		execute format('create trigger entity_sync_wake_up after insert on %s
			for each statement execute function entity_sync_wake_up()', part);
	end loop;
end $$`)
}

// DisableWakeUp undoes EnableWakeUp.
func DisableWakeUp(ctx context.Context, conn Beginner) error {
	return inTx(ctx, conn, "disabling the wake-up", `do $$
declare
	part regclass;
begin
	for part in select tgrelid::regclass from pg_trigger
		where tgname = 'entity_sync_wake_up' and tgrelid in (to_regclass('entity_sync_outbox'), to_regclass('entity_sync_outbox_events'))
	loop
		perform pg_advisory_xact_lock(7311416104537220975);
		execute format('drop trigger if exists entity_sync_wake_up on %s', part);
	end loop;
end $$`)
}

// wakesUp reports whether each table of the outbox has the trigger.
const wakesUp = `(to_regclass('entity_sync_outbox') is not null and not exists (
	select from unnest(array[to_regclass('entity_sync_outbox'), to_regclass('entity_sync_outbox_events')]) as t (part)
	where t.part is not null and not exists (
		select from pg_trigger where tgrelid = t.part and tgname = 'entity_sync_wake_up' and tgenabled <> 'D')))`
