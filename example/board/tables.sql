-- What SQLite and PostgreSQL both understand.

create table if not exists lists (
	id         text primary key,
	written_at bigint not null, -- microseconds since 1970
	written_on text not null
);

create table if not exists items (
	id          text primary key,
	list        text not null default 'all' references lists,
	name        text not null,
	quantity    bigint not null,
	price_cents bigint not null,
	created_at  bigint not null default 0,
	written_at  bigint not null default 0,
	written_on  text not null default '',
	private     boolean not null default false, -- for managers alone
	revision    bigint not null default 1 -- raised by every write
);

-- What only managers may see is a table of its own: a policy hides rows, not columns.
create table if not exists costs (
	item       text primary key references items on delete cascade,
	cost_cents bigint not null
);
