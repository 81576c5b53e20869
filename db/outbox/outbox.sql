-- The outbox of Entity Sync: the keys that are to be announced, and the events that
-- are to be published, when the transaction that wrote them has committed. It goes
-- into the first schema of the search path. Running it again changes nothing. It is
-- several statements, which belong in one transaction.

-- Many nodes start at once, and "if not exists" alone is no match for that.
do $$ begin perform pg_advisory_xact_lock(7311416104537220975); end $$;

create table if not exists entity_sync_outbox (
	entity  text collate "C" not null,
	id      text not null,
	written timestamptz not null default clock_timestamp(),
	entry   bigint generated always as identity,
	-- By entity first: what nobody takes is not in the way of what somebody does.
	primary key (entity, entry)
) with (
	-- A queue is all dead rows: clean up early, at full speed, and without
	-- the exclusive lock that giving the space back to the system would take.
	autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_threshold = 1000,
	autovacuum_vacuum_cost_delay = 0,
	autovacuum_analyze_scale_factor = 0,
	autovacuum_analyze_threshold = 10000,
	vacuum_truncate = off
);

-- Events have a table of their own: who may write keys can make nodes fetch, and no
-- more, but who may write events puts words into users' mouths. Relays of versions
-- that know no events do not look here.
do $$
declare
	grantee text;
begin
	if to_regclass(format('%I.entity_sync_outbox_events', current_schema())) is not null then
		return;
	end if;
	create table entity_sync_outbox_events (
		topic   text collate "C" not null,
		event   json not null, -- a CloudEvent, and kept as it is
		written timestamptz not null default clock_timestamp(),
		entry   bigint generated always as identity,
		channel text collate "C" generated always as (split_part(topic, '.', 1)) stored,
		primary key (channel, entry)
	) with (
		autovacuum_vacuum_scale_factor = 0,
		autovacuum_vacuum_threshold = 1000,
		autovacuum_vacuum_cost_delay = 0,
		autovacuum_analyze_scale_factor = 0,
		autovacuum_analyze_threshold = 10000,
		vacuum_truncate = off
	);
	comment on table entity_sync_outbox_events is 'Entity Sync: events to publish';
	-- Who relays keys relays events as well. Who may write events is for you to grant.
	for grantee in
		select distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end
			from pg_class c, aclexplode(c.relacl) a
			where c.oid = 'entity_sync_outbox'::regclass and a.privilege_type = 'DELETE' and a.grantee <> c.relowner
	loop
		execute format('grant select, delete on entity_sync_outbox_events to %s', grantee);
	end loop;
end $$;

comment on table entity_sync_outbox is 'Entity Sync: keys to announce (schema 4)';

-- entity_sync_announce is the trigger that entity_sync_track puts on a table. Its
-- arguments are the entity type and the columns of the id. It writes with the
-- rights of its owner, so that who writes the table needs none on the outbox.
create or replace function entity_sync_announce() returns trigger
language plpgsql security definer
-- An id is the same text whoever writes it. Rows that a policy hides from the
-- owner are an error, not left out.
set datestyle = 'ISO' set timezone = 'UTC' set intervalstyle = 'postgres'
set bytea_output = 'hex' set extra_float_digits = 1 set lc_monetary = 'C' set row_security = off
-- Functions are called by their full names: who may make some in this schema could
-- make one that suits a call better, and have the owner run it.
as $$
declare
	kind oid;
	base oid;
	key  text;
	keys text;
	stmt text;
begin
	for i in 1 .. tg_nargs - 1 loop
		-- A cast of a type that somebody made may be a function of theirs, which the owner
		-- must not run: what such a type looks like comes from its output function.
		kind := (select atttypid from pg_attribute where attrelid = tg_relid and attname = tg_argv[i]::name);
		if kind is null then
			raise exception 'Entity Sync: table % has no column %, which is in the id of "%"', tg_relid::regclass, tg_argv[i], tg_argv[0]
				using errcode = 'undefined_column', hint = pg_catalog.format(
					'Was it renamed or dropped? In that transaction, call entity_sync_track(%1$L, %2$L, ...) with the columns of the id as they are now (in Go: outbox.Track), or entity_sync_untrack(%1$L, %2$L).',
					tg_relid::regclass::text, tg_argv[0]);
		end if;
		while kind >= '16384'::oid loop
			base := (select typbasetype from pg_type where oid = kind and typtype = 'd');
			exit when base is null;
			kind := base;
		end loop;
		-- Ids that are equal have one spelling, and only who spells them so gets the row.
		key := pg_catalog.concat_ws('||''/''||', key, pg_catalog.format(case
			when kind in ('float4'::regtype, 'float8'::regtype) then '(%1$I operator(pg_catalog.+) ''0'')::text' -- -0 is 0
			when kind = 'numeric'::regtype then 'pg_catalog.trim_scale(%1$I)::text'
			when kind = 'interval'::regtype then 'pg_catalog.justify_interval(%1$I)::text' -- a day is 24 hours
			when kind in ('regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype,
				'regclass'::regtype, 'regtype'::regtype, 'regrole'::regtype, 'regnamespace'::regtype,
				'regconfig'::regtype, 'regdictionary'::regtype, 'regcollation'::regtype)
				then '%1$I::oid::text' -- the names depend on the search path
			when kind = 'cidr'::regtype then 'case pg_catalog.num_nulls(%1$I) when 0 then pg_catalog.format(''%%s'', %1$I::inet) end'
			when kind >= '16384'::oid or kind = 'inet'::regtype -- with a mask in ::text, and in no row
				then 'case pg_catalog.num_nulls(%1$I) when 0 then pg_catalog.format(''%%s'', %1$I) end'
			else '%1$I::text' end, tg_argv[i]));
	end loop;
	keys := case tg_op
		when 'INSERT' then 'select distinct $1, %1$s from new_rows where %1$s is not null'
		when 'DELETE' then 'select distinct $1, %1$s from old_rows where %1$s is not null'
		when 'UPDATE' then 'select $1, %1$s from old_rows where %1$s is not null union select $1, %1$s from new_rows where %1$s is not null'
		else 'select distinct $1, %1$s from ' || replace(tg_relid::regclass::text, '%', '%%') || ' where %1$s is not null'
	end;
	-- What is no valid id the relay sorts out: planning this is most of its cost.
	stmt := 'insert into entity_sync_outbox (entity, id) ' || pg_catalog.format(keys, key);
	if tg_op <> 'TRUNCATE' then
		execute stmt using tg_argv[0];
		return null;
	end if;
	if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
		raise warning 'Entity Sync: rows of % that were written after this transaction had begun are not announced as gone', tg_relid::regclass
			using hint = 'TRUNCATE removes rows that a transaction above READ COMMITTED cannot see.';
	end if;
	begin
		execute stmt using tg_argv[0];
	exception when insufficient_privilege then
		raise warning 'Entity Sync: the rows of % are not announced as gone: %', tg_relid::regclass, sqlerrm
			using hint = pg_catalog.format('The owner of the function entity_sync_announce, %s, must be able to read the whole table.', current_user);
	end;
	return null;
end $$;

-- entity_sync_trigger names the trigger for an operation and an entity type, which
-- may be longer than a name can be.
create or replace function entity_sync_trigger(operation text, entity text) returns name
language sql immutable
as $$ select pg_catalog.format('entity_sync_%s_%s', operation, md5(entity))::name $$;

-- entity_sync_track has writes to a table announced: outbox.Track.
create or replace function entity_sync_track(target regclass, entity text, variadic id_columns text[]) returns void
language plpgsql
as $$
declare
	operations constant text[] := array['insert', 'update', 'delete', 'truncate'];
	tables constant text[] := array[
		'referencing new table as new_rows', 'referencing old table as old_rows new table as new_rows',
		'referencing old table as old_rows', ''];
	literals text := quote_literal(entity);
	wanted bytea := convert_to(entity, getdatabaseencoding()) || '\x00';
	parts text[];
	col name;
begin
	if entity is null or entity !~ '^[-._a-zA-Z0-9]{1,64}$' then
		raise exception 'bad entity type %: want 1 to 64 letters, digits, ".", "_" and "-"', quote_nullable(entity)
			using errcode = 'invalid_parameter_value';
	end if;
	if not exists (select from pg_class where oid = target and relkind in ('r', 'p')) then
		raise exception '% is not a table', target using errcode = 'wrong_object_type';
	end if;
	if coalesce(pg_catalog.cardinality(id_columns), 0) = 0 then
		raise exception 'no columns for the id' using errcode = 'invalid_parameter_value';
	end if;
	for i in 1 .. pg_catalog.cardinality(id_columns) loop
		parts := parse_ident(id_columns[i]);
		select attname into col from pg_attribute
			where attrelid = target and attname = parts[1]::name and attnum > 0 and not attisdropped;
		if col is null or pg_catalog.cardinality(parts) <> 1 then
			raise exception 'table % has no column %', target, id_columns[i] using errcode = 'undefined_column';
		end if;
		literals := literals || ', ' || quote_literal(col);
		wanted := wanted || convert_to(col::text, getdatabaseencoding()) || '\x00';
	end loop;

	-- Looking takes no lock. The second look is for another node that was quicker.
	for look in 1 .. 2 loop
		if 4 = (select count(*) from pg_trigger
			where tgrelid = target and tgfoid = 'entity_sync_announce'::regproc and tgargs = wanted and tgenabled <> 'D'
				and tgname = any (select entity_sync_trigger(op, entity) from pg_catalog.unnest(operations) op))
		then
			return;
		end if;
		perform pg_advisory_xact_lock(7311416104537220975);
	end loop;
	perform entity_sync_untrack(target, entity);
	for i in 1 .. 4 loop
		execute pg_catalog.format('create trigger %I %s %s on %s %s for each statement execute function entity_sync_announce(%s)',
			entity_sync_trigger(operations[i], entity), case operations[i] when 'truncate' then 'before' else 'after' end,
			operations[i], target, tables[i], literals);
	end loop;
end $$;

-- entity_sync_untrack takes that back: outbox.Untrack.
create or replace function entity_sync_untrack(target regclass, entity text) returns void
language plpgsql
as $$
declare
	triggers name[];
	trigger name;
begin
	-- Looking takes no lock. The second look is for another node that was quicker.
	for look in 1 .. 2 loop
		triggers := array(select tgname from pg_trigger
			where tgrelid = target and tgfoid = 'entity_sync_announce'::regproc
				and tgname = any (select entity_sync_trigger(op, entity) from pg_catalog.unnest(array['insert', 'update', 'delete', 'truncate']) op));
		if pg_catalog.cardinality(triggers) = 0 then
			return;
		end if;
		perform pg_advisory_xact_lock(7311416104537220975);
	end loop;
	foreach trigger in array triggers loop
		execute pg_catalog.format('drop trigger %I on %s', trigger, target);
	end loop;
end $$;

-- entity_sync_wake_up tells relays that listen: outbox.EnableWakeUp.
create or replace function entity_sync_wake_up() returns trigger
language plpgsql
as $$ begin
	perform pg_notify('entity_sync_outbox', '');
	return null;
end $$;

-- Where relays are woken by keys, events wake them as well.
do $$ begin
	if exists (select from pg_trigger where tgrelid = 'entity_sync_outbox'::regclass and tgname = 'entity_sync_wake_up' and tgenabled <> 'D')
		and not exists (select from pg_trigger where tgrelid = 'entity_sync_outbox_events'::regclass and tgname = 'entity_sync_wake_up')
	then
		create trigger entity_sync_wake_up after insert on entity_sync_outbox_events
			for each statement execute function entity_sync_wake_up();
	end if;
end $$;

do $$
declare
	signature text;
begin
	foreach signature in array array['entity_sync_announce()', 'entity_sync_track(regclass, text, text[])', 'entity_sync_untrack(regclass, text)'] loop
		execute format('alter function %s set search_path = pg_catalog, %I, pg_temp', signature, current_schema());
		-- Who may use them could announce anything: it is for you to grant.
		execute format('revoke execute on function %s from public', signature);
	end loop;
end $$;
