package db_test

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/shared"
)

// keyTypes is values of each type that an id may have. Those of one line are looked at in
// one table, so equal ones are told apart if their spellings are.
var keyTypes = map[string][]string{
	"bool": {"true", "false"}, `"char"`: {"a", ""}, "name": {"Ann"}, "text": {"Ann", "é "}, "varchar(9)": {"Ann", "b "}, "varchar": {"c"},
	"char(5)": {"ab", "abcde"}, "bpchar": {"ab", "ab  "}, "int2": {"7"}, "int4": {"-7"}, "int8": {"9007199254740993"},
	"oid": {"7", "4294967295"}, "xid": {"7"}, "xid8": {"7"}, "cid": {"7"}, "tid": {"(1,2)"},
	"numeric": {"1.50", "100", "0.000", "NaN", "-1e-20"}, "numeric(10,2)": {"1.5", "100"},
	"float4": {"1.5", "-0", "1e20", "0.1", "NaN"}, "float8": {"1.5", "-0", "1e20", "0.1", "1e-7", "123456789.12345678"},
	"date": {"2026-02-01", "infinity", "0044-03-15 BC"}, "time": {"03:04:05.5", "24:00:00"}, "timetz": {"03:04:05+02"},
	"timestamp": {"2026-02-01 03:04:05.678", "-infinity"}, "timestamptz": {"2026-02-01 23:04:05+00", "2026-07-01 03:04:05.5+05:30"},
	"interval": {"1 day", "24:00:00", "-1 mons 2 days", "1 year 2 mons -3 days 04:05:06", "-00:00:01"},
	"uuid":     {"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, "bytea": {`\x00ff`, `\x61`},
	"inet": {"192.168.0.1", "192.168.0.1/24", "::1"}, "cidr": {"192.168.0.1/32", "192.168.0.0/24"}, "macaddr": {"08:00:2b:01:02:03"}, "macaddr8": {"08:00:2b:01:02:03:04:05"},
	"bit(4)": {"1010"}, "varbit": {"101"}, "money": {"$1.00", "-$1,234.50"}, "pg_lsn": {"0/16B3748"},
	"regclass": {"pg_class", "ours.items"}, "regtype": {"int4"}, "regproc": {"now"}, "regnamespace": {"ours"}, "regrole": {"owner"},
	"tsvector": {"b:2 a:1"}, "tsquery": {"a&b"}, "aclitem": {"owner=r/owner"}, "oidvector": {"1 2"},
	"jsonb":     {"1.0", "1.00", `{"b": 1, "a": "x"}`, `"text"`},
	"int4range": {"[1,5)"}, "numrange": {"[1.0,2)", "[1.00,2)"}, "daterange": {"[2026-01-02,2026-02-01)"}, "tstzrange": {"[2026-01-02 00:00+01,)"}, "int4multirange": {"{[1,2),[5,9)}"},
	"size": {"small"}, "odd": {"5"}, "price": {"1.50"}, "dearest": {"1.50"}, "code": {"ab"}, "pair": {"(1.0,a)", "(1.00,a)"}, "span": {"[a,b)"},
	"citext": {"Ann", "ann"},
}

// inBatchesOnly is what db.Rows refuses: ids of these types may be equal and spelled otherwise.
var inBatchesOnly = []string{"aclitem", "citext", "jsonb", "numrange", "oidvector", "pair", "span"}

// sessions is settings by which the same value is written in other ways.
var sessions = []map[string]string{
	{},
	{"timezone": "Asia/Tokyo", "datestyle": "SQL, DMY", "intervalstyle": "sql_standard", "bytea_output": "escape", "extra_float_digits": "-15", "search_path": "public, ours"},
	{"timezone": "America/New_York", "datestyle": "German", "intervalstyle": "iso_8601", "extra_float_digits": "3", "search_path": "ours, public"},
	{"datestyle": "Postgres, MDY", "intervalstyle": "postgres_verbose", "xmloption": "document"},
}

// Whatever the type of an id is, and whatever the settings of who writes and who reads are:
// of all that a client may take for the id, what is announced has the row, and nothing
// else has one, for that would never change.
func TestTheSpellingThatIsAnnouncedAloneHasTheRow(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, outbox.Schema, "create extension citext", "create schema ours", "create table ours.items (id int)",
		"create type size as enum ('small')", "create domain odd as int check (value % 2 = 1)", "create domain price as numeric(10,3)", "create domain dearest as price",
		"create domain code as char(4)", "create type pair as (a numeric, b text)", "create type span as range (subtype = text)")
	checkKeyTypes(t, d)
	var pools []*pgxpool.Pool
	for _, settings := range sessions {
		pools = append(pools, pgtest.Pool(t, withSettings(t, d.URL(), settings), 4))
	}
	for n, kind := range slices.Sorted(maps.Keys(keyTypes)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			k := spelledKeys{table: fmt.Sprint("public.keys", n), pools: pools, announced: make(map[string]int), said: map[string]bool{"x": true}}
			k.exec(t, fmt.Sprintf("create table %s (id %s); create table %[1]s_values (n int, id %[2]s)", k.table, kind))
			if err := outbox.Track(t.Context(), pools[0], k.table, "items", "id"); err != nil {
				t.Fatal(err)
			}
			for _, value := range keyTypes[kind] {
				k.write(t, value)
			}
			ids := "$1"
			if kind == "pair" { // of two composites PostgreSQL does not say which
				ids = "$1::pair[]"
			}
			var refused bool
			for i, pool := range pools {
				k.read(t, fmt.Sprintf("Batch in session %d", i), db.Batch(pool, fmt.Sprintf("select id from %s where id = any(%s)", k.table, ids)))
				rows := db.Rows(pool, fmt.Sprintf("select id from %s where id = %s", k.table, strings.TrimSuffix(ids, "[]")))
				if refused = errors.Is(rows.Check(t.Context()), db.ErrBadQuery); !refused {
					k.read(t, fmt.Sprintf("Rows in session %d", i), rows)
				}
			}
			if refused != slices.Contains(inBatchesOnly, kind) {
				t.Errorf("Rows is refused: %v", refused)
			}
		})
	}
}

// checkKeyTypes returns an error for a type of PostgreSQL's that an index can be of, and
// that the test does not know.
func checkKeyTypes(t *testing.T, d *pgtest.Database) {
	t.Helper()
	rows, err := d.Connect(t).Query(t.Context(), `
		select format_type(t.oid, -1) from pg_type t where typtype <> 'p' and exists (select from pg_opclass o join pg_am a on a.oid = o.opcmethod
			where o.opcintype = t.oid and a.amname in ('btree', 'hash')) order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	types, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for kind := range keyTypes {
		var name string
		if err := d.Connect(t).QueryRow(t.Context(), "select format_type($1::text::regtype, -1)", kind).Scan(&name); err != nil {
			t.Fatal(err)
		}
		known = append(known, name)
	}
	for _, kind := range types {
		if !slices.Contains(known, kind) {
			t.Errorf("the type %s can be that of an id, and is not tried", kind)
		}
	}
	if len(types) < 30 {
		t.Errorf("PostgreSQL has %d types, want more", len(types))
	}
}

func withSettings(t *testing.T, server string, settings map[string]string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, value := range settings {
		q.Set(name, value)
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // as pgx reads it
	return u.String()
}

// spelledKeys is a table of ids, the spellings of them that were announced, with how many
// rows have it, and all that somebody may take for one.
type spelledKeys struct {
	table     string
	pools     []*pgxpool.Pool
	announced map[string]int
	said      map[string]bool
	values    int
}

func (k *spelledKeys) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := k.pools[0].Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// write adds a value to the table. Every session would announce the same.
func (k *spelledKeys) write(t *testing.T, value string) {
	t.Helper()
	n := k.values
	k.values++
	k.exec(t, fmt.Sprintf("insert into %s_values values (%d, '%s')", k.table, n, strings.ReplaceAll(value, "'", "''")))
	insert := fmt.Sprintf("insert into %s select id from %[1]s_values where n = %d", k.table, n)
	var spelled []string
	for _, pool := range k.pools {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var id, text, output, json string
		_, err = tx.Exec(t.Context(), insert)
		if err == nil {
			err = tx.QueryRow(t.Context(), "select id from public.entity_sync_outbox").Scan(&id) // that of others is not committed
		}
		if err == nil {
			err = tx.QueryRow(t.Context(), fmt.Sprintf("select id::text, format('%%s', id), coalesce(to_json(id) #>> '{}', '') from %s_values where n = %d", k.table, n)).Scan(&text, &output, &json)
		}
		if err := errors.Join(err, tx.Rollback(t.Context())); err != nil {
			t.Fatal(err)
		}
		spelled = append(spelled, id)
		k.say(id, text, output, json)
	}
	if len(slices.Compact(slices.Clone(spelled))) != 1 {
		t.Errorf("%s is announced as %q", value, spelled)
	}
	k.announced[spelled[0]]++
	k.say(value)
	k.exec(t, "begin; set local session_replication_role = replica;"+insert+"; commit") // announcing nothing
}

// say notes texts, and others that are nearly the same.
func (k *spelledKeys) say(texts ...string) {
	for _, s := range texts {
		for _, s := range []string{s, s + " ", "0" + s, s + "0", s + ".0", strings.ToUpper(s), strings.ToLower(s)} {
			k.said[s] = true
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil { // as a browser has it
			k.said[strconv.FormatFloat(f, 'f', -1, 64)] = true
		}
	}
}

func (k *spelledKeys) read(t *testing.T, how string, q *db.Query) {
	t.Helper()
	ids := slices.Sorted(maps.Keys(k.said))
	for i, r := range q.FetchBatch(t.Context(), requestsOf(ids...)) {
		n := k.announced[ids[i]]
		if n == 0 && !errors.Is(r.Err, shared.ErrNotFound) || n > 0 && (r.Err != nil || len(r.Rows) != n) {
			t.Errorf("%s: %q: %q, %v, want %d rows: %q is announced", how, ids[i], r.Rows, r.Err, n, slices.Sorted(maps.Keys(k.announced)))
		}
	}
}
