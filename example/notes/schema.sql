create table if not exists notes (
	id    bigint generated always as identity primary key,
	owner text not null,
	text  text not null
);
create index if not exists notes_of on notes (owner, id);

-- Who the database takes a client for; nobody, unless it was said.
alter table notes enable row level security;
drop policy if exists own on notes;
create policy own on notes using (owner = nullif(current_setting('app.user', true), ''));

-- The application is no superuser and does not own the table: the policy holds for it.
do $$ begin
	create role notes_app login password 'notes';
exception when duplicate_object then null; end $$;
grant select, insert, update, delete on notes to notes_app;
