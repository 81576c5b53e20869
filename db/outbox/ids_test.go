package outbox_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

func TestKeysOfSeveralColumnsAndKinds(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, `create table "Odd%s.Name" ("Room No" int, day date, at timestamptz, code char(4), u uuid, long text)`)
	track(t, d, `"Odd%s.Name"`, "items", `"Room No"`, "day", "AT", "code", "u")
	const row = "(7, '2026-02-01', '2026-02-01 10:00+02', 'ab', '6EC0BD7F-11C0-43DA-975E-2A8AD9EBAE0B')"
	const want = "7/2026-02-01/2026-02-01 08:00:00+00/ab/6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b"
	// The settings of who writes do not matter.
	for _, set := range []string{"", "set datestyle = 'SQL, DMY'; set timezone = 'Asia/Tokyo';"} {
		if got := announced(t, d, set+`insert into "Odd%s.Name" values `+row); !slices.Equal(got, []string{want}) {
			t.Errorf("%s announced %q, want %q", set, got, want)
		}
	}
	if got := announced(t, d, `truncate "Odd%s.Name"`); !slices.Equal(got, []string{want}) {
		t.Errorf("truncate announced %q, want %q", got, want)
	}
	if got := announced(t, d, `insert into "Odd%s.Name" (day) values ('2026-02-01')`); got != nil {
		t.Errorf("NULL in a key announced %q", got)
	}
}

// What is no valid id stops neither the write nor the relay.
func TestIdsThatNobodyCanWatch(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create table items (id text)")
	track(t, d, "items", "items", "id")
	e := newEar("items")
	r := startRelay(t, outbox.Config{Pool: newPool(t, d.URL())}, e)
	long := strings.Repeat("x", shared.MaxIDBytes)
	bad := 0
	for id, good := range map[string]bool{
		"": false, "fine": true, "tab\t": false, "\x7f": false, "\x1f": false, "new\nline": false, "\x01": false,
		long: true, long + "x": false, strings.Repeat("ü", 127): true, strings.Repeat("ü", 128): false, "a b ü/'\"\\": true,
	} {
		d.Exec(t, "insert into items values ($1)", id)
		if good {
			testkit.Until(t, "it was announced", func() bool { return e.times(itemKey(id)) == 1 })
			continue
		}
		bad++
		testkit.Until(t, "it was dropped", func() bool { return r.Stats().Bad == uint64(bad) })
	}
	if got := len(e.all()); got != 4 {
		t.Errorf("%d keys were announced, want 4", got)
	}
}

// What the writer of a table has set does not change how an id is written.
func TestAnIDIsTheSameTextWhoeverWritesIt(t *testing.T) {
	t.Parallel()
	for kind, c := range map[string]struct{ value, id string }{
		"bytea":       {`'\x00ff'`, `\x00ff`},
		"float8":      {"0.1234567890123456", "0.1234567890123456"},
		"interval":    {"'1 day 2 hours'", "1 day 02:00:00"},
		"timestamptz": {"'2026-01-02 03:04:05+00'", "2026-01-02 03:04:05+00"},
		"date":        {"'2026-01-02'", "2026-01-02"},
	} {
		d := newOutbox(t, "create table items (id "+kind+")")
		track(t, d, "items", "items", "id")
		got := announced(t, d, "set bytea_output = 'escape'; set extra_float_digits = -10; set intervalstyle = 'iso_8601'; set datestyle = 'German'; set timezone = 'Asia/Tokyo';"+
			"insert into items values ("+c.value+")")
		if !slices.Equal(got, []string{c.id}) {
			t.Errorf("%s: announced %q, want %q", kind, got, c.id)
		}
	}
}

// An id looks as it does where rows are fetched by it, whatever its type.
func TestIDsOfManyTypes(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "create type size as enum ('small'); create domain flag as bool; create domain code as char(4)")
	for i, c := range []struct{ kind, value, want string }{
		{"bool", "true", "true"}, {"flag", "true", "true"}, {"char(4)", "'ab'", "ab"}, {"code", "'ab'", "ab"},
		{"size", "'small'", "small"}, {"numeric(4,2)", "1.5", "1.5"}, {"text[]", "'{a,b}'", "{a,b}"}, {"size[]", "'{small}'", "{small}"},
	} {
		table := fmt.Sprint("table", i)
		d.Exec(t, fmt.Sprintf("create table %s (id %s)", table, c.kind))
		track(t, d, table, "items", "id")
		if got := announced(t, d, fmt.Sprintf("insert into %s values (%s), (null)", table, c.value)); !slices.Equal(got, []string{c.want}) {
			t.Errorf("an id of type %s: %q, want %q", c.kind, got, c.want)
		}
	}
}

// A column of the id that is renamed stops writes with an error that says what to do:
// done in the transaction that renames it, nothing stops.
func TestARenamedColumnOfTheIDSaysWhatToDo(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, `create table "Odd's" (id int, part int)`)
	track(t, d, `"Odd's"`, "items", "part", "id")
	d.Exec(t, `insert into "Odd's" values (1, 2)`)
	d.Exec(t, `alter table "Odd's" rename id to number`)
	for _, sql := range []string{`insert into "Odd's" values (2, 2)`, `update "Odd's" set part = 3`, `delete from "Odd's"`, `truncate "Odd's"`} {
		_, err := d.Connect(t).Exec(t.Context(), sql)
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pgErr.Code != "42703" || pgErr.Message != `Entity Sync: table "Odd's" has no column id, which is in the id of "items"` ||
			!strings.Contains(pgErr.Hint, `call entity_sync_track('"Odd''s"', 'items', ...)`) || !strings.Contains(pgErr.Hint, `entity_sync_untrack('"Odd''s"', 'items')`) {
			t.Errorf("%s: %+v", sql, err)
		}
	}
	for _, mended := range []string{
		`select entity_sync_track('"Odd''s"', 'items', 'part', 'number')`,
		`begin; alter table "Odd's" rename part to section; select entity_sync_track('"Odd''s"', 'items', 'section', 'number'); commit`,
	} {
		d.Exec(t, mended)
		if got := announced(t, d, `insert into "Odd's" values (3, 4)`); !slices.Equal(got, []string{"4/3"}) {
			t.Errorf("after %s: announced %q", mended, got)
		}
	}
	d.Exec(t, `alter table "Odd's" drop column section`)
	if _, err := d.Connect(t).Exec(t.Context(), `insert into "Odd's" values (5)`); err == nil || !strings.Contains(err.Error(), "has no column section") {
		t.Errorf("a column that was dropped: %v", err)
	}
	d.Exec(t, `select entity_sync_untrack('"Odd''s"', 'items')`)
	d.Exec(t, `insert into "Odd's" values (5)`)
}
