package db_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
)

// text returns what the log has so far.
func (l *logbook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// A role that may not relay is an error in the log, with the statements that mend it:
// run as they are, they do.
func TestARoleThatMayNotRelayIsToldTheGrants(t *testing.T) {
	const read, schema = "grant select on outbox.entity_sync_outbox to %[1]s", "grant usage on schema outbox to %[1]s"
	for name, c := range map[string]struct {
		grants []string
		want   string
	}{
		"no right at all":   {nil, "grant usage on schema outbox to %[1]s; grant select, update, delete on outbox.entity_sync_outbox to %[1]s;"},
		"only to read":      {[]string{schema, read}, "grant update, delete on outbox.entity_sync_outbox to %[1]s;"},
		"not the schema":    {[]string{read, "grant update, delete on outbox.entity_sync_outbox to %[1]s"}, "grant usage on schema outbox to %[1]s;"},
		"all but to delete": {[]string{schema, read, "grant update on outbox.entity_sync_outbox to %[1]s"}, "grant delete on outbox.entity_sync_outbox to %[1]s;"},
	} {
		t.Run(name, func(t *testing.T) {
			d := pgtest.Shared(t).NewDatabase(t, "create schema outbox; set search_path = outbox;"+db.OutboxSchema)
			d.Exec(t, fmt.Sprintf("alter database %s set search_path = outbox, public", d.Name))
			role := d.NewRole(t, strings.Join(append([]string{"grant connect on database " + d.Name + " to %[1]s"}, c.grants...), ";"))
			d.Exec(t, "insert into outbox.entity_sync_outbox (entity, id) values ('items', '1')")
			var log logbook
			e := newEar("items")
			startRelay(t, db.Outbox{Pool: newPool(t, d.URLAs(role)), Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
			want := fmt.Sprintf("as the owner of the outbox, run: "+c.want, role)
			until(t, "the log has the remedy", func() bool { return log.count(want) > 0 })
			if text := log.text(); !strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
				t.Errorf("the log says %s", text)
			}
			d.Exec(t, strings.TrimPrefix(want, "as the owner of the outbox, run: "))
			until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
		})
	}
}

// No outbox, and one that the search path does not lead to, are told apart.
func TestAnOutboxThatIsNotFoundIsToldOf(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t)
	var log logbook
	e := newEar("items")
	startRelay(t, db.Outbox{Pool: newPool(t, d.URL()), Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	until(t, "the log says that there is none", func() bool { return log.count("there is no outbox in this database: db.EnsureSchema") > 0 })
	d.Exec(t, `create schema "Odd one"; set search_path = "Odd one";`+db.OutboxSchema)
	// The 4th or the 8th time: what is said is said again ever more rarely.
	until(t, "the log says where it is", func() bool {
		return log.count(`the outbox is in the schema \"Odd one\", and the search path of owner is`) > 0
	})
	d.Exec(t, "alter table \"Odd one\".entity_sync_outbox set schema public; insert into entity_sync_outbox (entity, id) values ('items', '1')")
	until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
}

// What may pass by itself is no error for an administrator.
func TestADatabaseThatIsAwayIsAWarning(t *testing.T) {
	var log logbook
	startRelay(t, db.Outbox{Pool: newPool(t, "postgres://nobody@127.0.0.1:1/nothing"), Logger: slog.New(slog.NewTextHandler(&log, nil))}, newEar("items"))
	until(t, "the log says so", func() bool { return log.count("relaying the outbox failed") > 0 })
	if text := log.text(); regexp.MustCompile("level=ERROR|remedy=").MatchString(text) {
		t.Errorf("the log says %s", text)
	}
}

// Listen without the trigger that wakes it does nothing, and is told of; the keys come
// by the interval.
func TestListeningToWhatWakesNobodyIsToldOf(t *testing.T) {
	d := newOutbox(t)
	for _, enabled := range []bool{false, true} {
		if enabled {
			if err := db.EnableWakeUp(t.Context(), d.Connect(t)); err != nil {
				t.Fatal(err)
			}
		}
		var log logbook
		e := newEar("items")
		pool := newPool(t, d.URL())
		r := startRelay(t, db.Outbox{Pool: pool, Listen: true, Interval: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
		write(t, pool, itemKey("1"))
		until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
		if !enabled {
			until(t, "the log has the remedy", func() bool { return log.count("run db.EnableWakeUp") == 1 })
		}
		until(t, "it listens", func() bool { return listeners(t, d) > 0 })
		closeRelay(t, r)
		if n := log.count("Outbox.Listen has no effect"); (n == 0) != enabled {
			t.Errorf("with the trigger %v the log says %d times that listening has no effect", enabled, n)
		}
	}
}

// listeners returns how many connections listen to the outbox of the database.
func listeners(t *testing.T, d *pgtest.Database) (n int) {
	t.Helper()
	err := d.Connect(t).QueryRow(t.Context(), "select count(*) from pg_stat_activity where datname = $1 and query like '%entity_sync_wake_up%' and pid <> pg_backend_pid()", d.Name).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Policies would hide what is written to the outbox from the relay, which would be well by
// all its figures, and announce nothing.
func TestPoliciesOfTheOutboxAreToldOf(t *testing.T) {
	for name, c := range map[string]struct{ policies, want string }{
		"none":                          {"", "disable row level security"},
		"one that shows others' rows":   {"create policy p on entity_sync_outbox using (entity = 'others')", "disable row level security"},
		"one that shows all for select": {"create policy p on entity_sync_outbox for select using (true)", "disable row level security"},
		"forced on the owner":           {"alter table entity_sync_outbox owner to %[1]s; alter table entity_sync_outbox force row level security", "no force row level security"},
	} {
		t.Run(name, func(t *testing.T) {
			d := pgtest.Shared(t).NewDatabase(t, db.OutboxSchema, "alter table entity_sync_outbox enable row level security")
			role := d.NewRole(t, strings.Join([]string{"grant select, update, delete on entity_sync_outbox to %[1]s", c.policies}, ";"))
			d.Exec(t, "insert into entity_sync_outbox (entity, id) values ('items', '1')")
			var log logbook
			e := newEar("items")
			relay := startRelay(t, db.Outbox{Pool: newPool(t, d.URLAs(role)), Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
			want := "as the owner of the outbox, run: alter table public.entity_sync_outbox " + c.want + ";"
			until(t, "the log has the remedy", func() bool { return log.count(want) > 0 })
			if s := relay.Stats(); s.Failing == 0 {
				t.Errorf("the figures are %+v, want failures", s)
			}
			d.Exec(t, strings.TrimPrefix(want, "as the owner of the outbox, run: "))
			until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
		})
	}
}
