-- migration.sql
create table notes (
	id    bigint generated always as identity primary key,
	owner text not null,
	text  text not null
);
create index on notes (owner, id);

-- Who a client is, a setting says. While nothing has set it, nobody sees anything.
alter table notes enable row level security;
create policy own on notes using (owner = nullif(current_setting('app.user', true), ''));
grant select, insert, update, delete on notes to notes_app;

-- A trigger writes lists/<owner> to the outbox, with every write to notes. The nodes take
-- it out, and announce it.
select entity_sync_track('notes', 'lists', 'owner');
grant select, update, delete on entity_sync_outbox to notes_app;
