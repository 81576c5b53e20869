package db

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// lockedSQL reads the relations on which the transaction holds locks, except PostgreSQL's own.
const lockedSQL = `
	with locked as (
		select distinct c.* from pg_locks l join pg_class c on c.oid = l.relation
		where l.pid = pg_backend_pid() and l.locktype = 'relation'
			and l.database = (select oid from pg_database where datname = current_database())
			and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
	)`

// checkPolicies returns an error if row-level security applies to the statement's tables and
// should not, or does not apply and should. The transaction holds a lock on every table that
// the statement reads, which is how checkPolicies finds them.
func (q *Query) checkPolicies(ctx context.Context, conn *pgx.Conn) error {
	var err error
	switch {
	case q.asViewer:
		err = protected(ctx, conn)
	case !q.asRole:
		return unprotected(ctx, conn)
	}
	if err == nil {
		err = visible(ctx, conn)
	}
	return err
}

// visible returns an error if there is row-level security on tables that the transaction has
// locked, and no policy ever shows the role a row of any of them. One such table beside others
// is no error: it may be joined for the rows that the role sees of those. Policies of a parent
// decide about rows that are read through the parent. For a view with its owner's rights, the
// policies for the owner decide.
func visible(ctx context.Context, conn *pgx.Conn) error {
	var role string
	var hidden []string
	var shown int
	err := conn.QueryRow(ctx, lockedSQL+`, protected as (
			select t.oid::regclass::text as name, exists (select from pg_policy p
				where p.polrelid = t.oid and p.polpermissive and p.polcmd in ('r', '*')
					and exists (select from unnest(p.polroles) r where case r when 0 then true else pg_has_role(r, 'usage') end)) as shown
			from locked t
			where t.relkind in ('r', 'p') and row_security_active(t.oid) and has_any_column_privilege(t.oid, 'select')
				and not exists (select from pg_inherits i where i.inhrelid = t.oid))
		select quote_ident(current_user), array(select name from protected where not shown order by 1),
			(select count(*) from protected where shown)`).Scan(&role, &hidden, &shown)
	if err == nil && len(hidden) > 0 && shown == 0 {
		err = fmt.Errorf("%w: no policy of %s ever shows a row to the role %s: run CREATE POLICY ... ON %s FOR SELECT TO %[3]s USING (...)",
			ErrBadQuery, strings.Join(hidden, " and "), role, hidden[0])
	}
	return err
}

// unprotected returns an error if row-level security applies to a table that the transaction
// has locked. If the role may read no column of a table, the table is read with the rights of
// a view's owner, and the policies for the role do not apply.
func unprotected(ctx context.Context, conn *pgx.Conn) error {
	var role string
	var tables []string
	err := conn.QueryRow(ctx, lockedSQL+`
		select current_user, array(select oid::regclass::text from locked
			where relkind in ('r', 'p') and row_security_active(oid) and has_any_column_privilege(oid, 'select') order by 1)`).Scan(&role, &tables)
	if err == nil && len(tables) > 0 {
		err = fmt.Errorf("%w: policies of %s apply to the role %q, and nothing tells them who the client is: call AsViewer, or WithoutViewer if every client may have the rows that they show to this role",
			ErrBadQuery, strings.Join(tables, " and "), role)
	}
	return err
}

// protected returns an error unless row-level security applies to the tables that the
// transaction has locked.
func protected(ctx context.Context, conn *pgx.Conn) error {
	var role string
	var bypasses bool
	var open, views []string
	var applies int
	err := conn.QueryRow(ctx, lockedSQL+`
		select current_user, r.rolsuper or r.rolbypassrls,
			array(select oid::regclass::text from locked
				where relkind in ('r', 'p') and relrowsecurity and not row_security_active(oid) order by 1),
			array(select v.oid::regclass::text from locked v join pg_roles o on o.oid = v.relowner
				where v.relkind = 'v'
					and not exists (select from pg_options_to_table(v.reloptions)
						where option_name = 'security_invoker' and option_value::boolean)
					and (o.rolsuper or o.rolbypassrls or exists (select from locked t
						where t.relrowsecurity and not t.relforcerowsecurity and pg_has_role(v.relowner, t.relowner, 'usage')))
				order by 1),
			(select count(*) from locked where relkind in ('r', 'p') and row_security_active(oid))
		from pg_roles r where r.rolname = current_user`).Scan(&role, &bypasses, &open, &views, &applies)
	switch {
	case err != nil:
		return err
	case bypasses:
		return fmt.Errorf("%w: the role %q bypasses row-level security: connect as one that is no superuser and has no BYPASSRLS", ErrBadQuery, role)
	case len(open) > 0:
		return fmt.Errorf("%w: the role %q owns %s, so that row-level security does not apply to it: connect as another role, or run ALTER TABLE %s FORCE ROW LEVEL SECURITY",
			ErrBadQuery, role, strings.Join(open, " and "), open[0])
	case len(views) > 0:
		return fmt.Errorf("%w: %s reads with the rights of its owner, to whom row-level security does not apply: run ALTER VIEW %s SET (security_invoker = true)",
			ErrBadQuery, strings.Join(views, " and "), views[0])
	case applies == 0:
		return fmt.Errorf("%w: no table that is read has row-level security: run ALTER TABLE ... ENABLE ROW LEVEL SECURITY and CREATE POLICY", ErrBadQuery)
	}
	return nil
}
