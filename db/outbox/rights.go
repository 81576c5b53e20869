package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// rightsSQL reads what the pool's role may do with the table that its search path leads to,
// or else with any of that name. PostgreSQL leaves a schema that the role may not use out of the
// search path, so that its tables seem to be missing.
const rightsSQL = `
	select quote_ident(current_user), current_setting('search_path'), c.relnamespace::regnamespace::text,
		coalesce(c.oid = to_regclass($1), false),
		has_schema_privilege(c.relnamespace, 'usage'),
		array(select p from unnest($2::text[]) p where not has_table_privilege(c.oid, p)),
		row_security_active(c.oid), pg_has_role(c.relowner, 'usage')
	from pg_class c where c.relname = $1::text and c.relkind in ('r', 'p')
	order by 4 desc, 3 limit 1`

// A relay needs these rights, of keys and of events.
var (
	relayRights = []string{"select", "update", "delete"}
	eventRights = []string{"select", "delete"}
)

// relayRemedy returns the statements that give the pool's role rights to a table of the outbox;
// empty if it lacks none.
func relayRemedy(ctx context.Context, pool *pgxpool.Pool, table string, rights []string) (string, error) {
	var role, path, schema string
	var found, usable, hidden, owns bool
	var lacks []string
	err := pool.QueryRow(ctx, rightsSQL, table, rights).Scan(&role, &path, &schema, &found, &usable, &lacks, &hidden, &owns)
	if errors.Is(err, pgx.ErrNoRows) {
		return "there is no outbox in this database: outbox.EnsureSchema, or the SQL in outbox.Schema, makes it", nil
	}
	if err != nil {
		return "", err
	}
	var grants []string
	if !usable {
		grants = append(grants, fmt.Sprintf("grant usage on schema %s to %s;", schema, role))
	}
	if len(lacks) > 0 {
		grants = append(grants, fmt.Sprintf("grant %s on %s.%s to %s;", strings.Join(lacks, ", "), schema, table, role))
	}
	if hidden { // even from the owner, if row-level security is forced
		security := "disable row level security"
		if owns {
			security = "no force row level security"
		}
		grants = append(grants, fmt.Sprintf("alter table %s.%s %s;", schema, table, security))
	}
	switch {
	case len(grants) > 0:
		return "as the owner of the outbox, run: " + strings.Join(grants, " "), nil
	case !found:
		return fmt.Sprintf("the outbox is in the schema %s, and the search path of %s is %s: set search_path, such as in the pool's URL", schema, role, path), nil
	}
	return "", nil
}
