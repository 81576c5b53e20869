package outbox_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

// A role with no more than the rights that Schema names can relay, where
// transactions are read-only by default, too.
func TestTheRightsOfARelay(t *testing.T) {
	t.Parallel()
	d := newOutbox(t, "do $$ begin if to_regrole('relayer') is null then create role relayer login; end if; end $$",
		"grant select, update, delete on entity_sync_outbox to relayer",
		"do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$")
	e := newEar("items")
	startRelay(t, outbox.Config{Pool: newPool(t, d.URLAs("relayer"))}, e)
	d.Exec(t, "begin read write; insert into entity_sync_outbox (entity, id) values ('items', '1'); commit")
	testkit.Until(t, "it was announced", func() bool { return e.times(itemKey("1")) == 1 })
}

// The relay says what is missing, and goes on when it is there.
func TestTheOutboxIsMadeLater(t *testing.T) {
	t.Parallel()
	d := pgtest.Shared(t).NewDatabase(t)
	pool := newPool(t, d.URL())
	e := newEar("items")
	var log testkit.Buffer
	r := startRelay(t, outbox.Config{Pool: pool, Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	testkit.Until(t, "it failed", func() bool { return r.Stats().Failing > 2 })
	if log.Count("outbox.EnsureSchema") == 0 {
		t.Error("the log does not say what to do")
	}
	if err := outbox.EnsureSchema(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	write(t, pool, itemKey("1"))
	testkit.Until(t, "it was announced", func() bool { return e.times(itemKey("1")) == 1 })
	testkit.Until(t, "the figures say so", func() bool { return r.Stats().Failing == 0 })
}

// A role that may not relay is an error in the log, with the statements that mend it:
// run as they are, they do.
func TestARoleThatMayNotRelayIsToldTheGrants(t *testing.T) {
	t.Parallel()
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
			t.Parallel()
			d := pgtest.Shared(t).NewDatabase(t, "create schema outbox; set search_path = outbox;"+outbox.Schema)
			d.Exec(t, fmt.Sprintf("alter database %s set search_path = outbox, public", d.Name))
			role := d.NewRole(t, strings.Join(append([]string{"grant connect on database " + d.Name + " to %[1]s"}, c.grants...), ";"))
			d.Exec(t, "insert into outbox.entity_sync_outbox (entity, id) values ('items', '1')")
			var log testkit.Buffer
			e := newEar("items")
			startRelay(t, outbox.Config{Pool: newPool(t, d.URLAs(role)), Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
			want := fmt.Sprintf("as the owner of the outbox, run: "+c.want, role)
			testkit.Until(t, "the log has the remedy", func() bool { return log.Count(want) > 0 })
			if text := log.String(); !strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
				t.Errorf("the log says %s", text)
			}
			d.Exec(t, strings.TrimPrefix(want, "as the owner of the outbox, run: "))
			testkit.Until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
		})
	}
}

// No outbox, and one that the search path does not lead to, are told apart.
func TestAnOutboxThatIsNotFoundIsToldOf(t *testing.T) {
	t.Parallel()
	d := pgtest.Shared(t).NewDatabase(t)
	var log testkit.Buffer
	e := newEar("items")
	startRelay(t, outbox.Config{Pool: newPool(t, d.URL()), Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
	testkit.Until(t, "the log says that there is none", func() bool { return log.Count("there is no outbox in this database: outbox.EnsureSchema") > 0 })
	d.Exec(t, `create schema "Odd one"; set search_path = "Odd one";`+outbox.Schema)
	// The 4th or the 8th time: what is said is said again ever more rarely.
	testkit.Until(t, "the log says where it is", func() bool {
		return log.Count(`the outbox is in the schema \"Odd one\", and the search path of owner is`) > 0
	})
	d.Exec(t, "alter table \"Odd one\".entity_sync_outbox set schema public; insert into entity_sync_outbox (entity, id) values ('items', '1')")
	testkit.Until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
}

// What may pass by itself is no error for an administrator.
func TestADatabaseThatIsAwayIsAWarning(t *testing.T) {
	t.Parallel()
	var log testkit.Buffer
	startRelay(t, outbox.Config{Pool: newPool(t, "postgres://nobody@127.0.0.1:1/nothing"), Logger: slog.New(slog.NewTextHandler(&log, nil))}, newEar("items"))
	testkit.Until(t, "the log says so", func() bool { return log.Count("relaying the outbox failed") > 0 })
	if text := log.String(); regexp.MustCompile("level=ERROR|remedy=").MatchString(text) {
		t.Errorf("the log says %s", text)
	}
}

// Policies would hide what is written to the outbox from the relay, which would be well by
// all its figures, and announce nothing.
func TestPoliciesOfTheOutboxAreToldOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ policies, want string }{
		"none":                          {"", "disable row level security"},
		"one that shows others' rows":   {"create policy p on entity_sync_outbox using (entity = 'others')", "disable row level security"},
		"one that shows all for select": {"create policy p on entity_sync_outbox for select using (true)", "disable row level security"},
		"forced on the owner":           {"alter table entity_sync_outbox owner to %[1]s; alter table entity_sync_outbox force row level security", "no force row level security"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := pgtest.Shared(t).NewDatabase(t, outbox.Schema, "alter table entity_sync_outbox enable row level security")
			role := d.NewRole(t, strings.Join([]string{"grant select, update, delete on entity_sync_outbox to %[1]s", c.policies}, ";"))
			d.Exec(t, "insert into entity_sync_outbox (entity, id) values ('items', '1')")
			var log testkit.Buffer
			e := newEar("items")
			relay := startRelay(t, outbox.Config{Pool: newPool(t, d.URLAs(role)), Logger: slog.New(slog.NewTextHandler(&log, nil))}, e)
			want := "as the owner of the outbox, run: alter table public.entity_sync_outbox " + c.want + ";"
			testkit.Until(t, "the log has the remedy", func() bool { return log.Count(want) > 0 })
			if s := relay.Stats(); s.Failing == 0 {
				t.Errorf("the figures are %+v, want failures", s)
			}
			d.Exec(t, strings.TrimPrefix(want, "as the owner of the outbox, run: "))
			testkit.Until(t, "the key is announced", func() bool { return e.times(itemKey("1")) == 1 })
		})
	}
}
