package es_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
)

const itemSQL, itemsSQL = "select id, name from items where id = $1", "select id, name from items where id = any($1)"

func TestRegisterQuery(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id int primary key, name text); insert into items values (1, 'Tea')`)
	pool := pgtest.Pool(t, d.URL(), 4)
	for name, q := range map[string]*db.Query{"rows": db.Rows(pool, itemSQL), "batch": db.Batch(pool, itemsSQL)} {
		t.Run(name, func(t *testing.T) {
			s := nodetest.Start(t, es.Config{})
			if err := es.RegisterQuery(t.Context(), s.EntitySync, "items", q); err != nil {
				t.Fatal(err)
			}
			p, key := socket.DialV2(t, s.URL), shared.EntityKey{Entity: "items", ID: "1"}
			p.Subscribe(key, shared.EntityKey{Entity: "items", ID: "x"})
			if rows := socket.Line(p.UntilKey("update", key)); rows != `update items 1 {"id":1,"name":"Tea"}` {
				t.Errorf("the snapshot is %s", rows)
			}
			d.Exec(t, "update items set name = 'Coffee'")
			if err := s.Notify(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			if rows := socket.Line(p.UntilKey("update", key)); rows != `update items 1 {"id":1,"name":"Coffee"}` {
				t.Errorf("the update is %s", rows)
			}
			d.Exec(t, "delete from items")
			if err := s.Notify(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			p.UntilKey("delete", key)
			d.Exec(t, "insert into items values (1, 'Tea')")
		})
	}
}

func TestRegisterQueryRefuses(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id int primary key, name text)`)
	pool, s := pgtest.Pool(t, d.URL(), 4), nodetest.Start(t, es.Config{})
	lost := pgtest.Pool(t, (&pgtest.Database{Server: d.Server, Name: "lost"}).URL(), 4)
	for want, err := range map[string]error{
		"is nil":              es.RegisterQuery(t.Context(), s.EntitySync, "items", nil),
		"does not exist":      es.RegisterQuery(t.Context(), s.EntitySync, "items", db.Rows(lost, itemSQL)),
		"nothing":             es.RegisterQuery(t.Context(), s.EntitySync, "items", db.Rows(pool, "select nothing from items where id = $1")),
		"more than the 3 of":  es.RegisterQuery(t.Context(), s.EntitySync, "items", db.Rows(pool, itemSQL), es.WithWorkers(4)),
		"not for queries":     es.RegisterQuery(t.Context(), s.EntitySync, "items", db.Rows(pool, itemSQL), es.WithRevision(func(int) int64 { return 0 })),
		"bypasses row-level ": es.RegisterQuery(t.Context(), s.EntitySync, "items", db.Rows(pool, itemSQL).AsViewer(db.Setting("app.viewer"))),
		"bad entity type":     es.RegisterQuery(t.Context(), s.EntitySync, "a b", db.Rows(pool, itemSQL)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("RegisterQuery returned %v, want %q", err, want)
		}
	}
	if err := es.RegisterQuery(t.Context(), s.EntitySync, "items", db.Rows(pool, itemSQL), es.WithWorkers(3)); err != nil {
		t.Error(err)
	}
}

// A database that is down when the node starts is waited for, and statements that
// could not be checked then are checked later.
func TestRegisterQueryBeforeTheDatabaseIsUp(t *testing.T) {
	server, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	d := server.NewDatabase(t, `create table items (id int primary key, name text); insert into items values (1, 'Tea')`)
	server.Stop()
	pool, s := pgtest.Pool(t, d.URL(), 4), nodetest.Start(t, es.Config{})
	for name, q := range map[shared.EntityType]*db.Query{
		"items": db.Rows(pool, itemSQL),
		"bad":   db.Rows(pool, itemSQL).AsViewer(db.Setting("app.viewer")), // by a superuser
	} {
		if err := es.RegisterQuery(t.Context(), s.EntitySync, name, q, es.WithRetry(10*time.Millisecond, 100*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	p, key := socket.DialV2(t, s.URL), shared.EntityKey{Entity: "items", ID: "1"}
	p.Subscribe(key, shared.EntityKey{Entity: "bad", ID: "1"})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if rows := socket.Line(p.UntilKey("update", key)); rows != `update items 1 {"id":1,"name":"Tea"}` {
		t.Errorf("the snapshot is %s", rows)
	}
	if _, err := s.DatabaseHub.Fetch(t.Context(), shared.EntityKey{Entity: "bad", ID: "1"}, ""); !errors.Is(err, db.ErrBadQuery) {
		t.Errorf("a query by who bypasses policies: %v", err)
	}
}

// A table that is locked holds up what reads it, and neither the other entity
// types of its pool nor the rest of the application.
func TestALockedTable(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id int primary key, name text); insert into items values (1, 'Tea');
		create table people (id int primary key, name text); insert into people select i, 'Ann' from generate_series(1, 200) i`)
	pool, s := pgtest.Pool(t, d.URL(), 4), nodetest.Start(t, es.Config{})
	for name, sql := range map[shared.EntityType]string{"items": itemSQL, "people": strings.ReplaceAll(itemSQL, "items", "people")} {
		if err := es.RegisterQuery(t.Context(), s.EntitySync, name, db.Rows(pool, sql)); err != nil {
			t.Fatal(err)
		}
	}
	locker := d.Connect(t)
	if _, err := locker.Exec(t.Context(), "begin; lock items in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	p := socket.DialV2(t, s.URL)
	var locked []shared.EntityKey
	for i := range 100 {
		locked = append(locked, shared.EntityKey{Entity: "items", ID: fmt.Sprint(i + 1)})
	}
	p.Subscribe(locked...)
	testkit.Until(t, "they have all of the pool that they get", func() bool { return s.Bridge.Stats().Entities["items"].FetchesRunning >= 2 })
	for i := range 200 {
		p.Subscribe(shared.EntityKey{Entity: "people", ID: fmt.Sprint(i + 1)})
	}
	for i := range 200 {
		key := shared.EntityKey{Entity: "people", ID: fmt.Sprint(i + 1)}
		if i == 199 {
			p.UntilKey("update", key)
		}
		if n := pool.Stat().AcquiredConns(); n > 3 {
			t.Fatalf("%d of 4 connections are taken by fetches", n)
		}
	}
	var one int
	if err := pool.QueryRow(t.Context(), "select 1").Scan(&one); err != nil {
		t.Errorf("the application's own statement: %v", err)
	}
	if n := s.Bridge.Stats().Entities["items"].FetchesRunning; n != 2 {
		t.Errorf("%d fetches of the locked table are running, want 2", n)
	}
	if _, err := locker.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	p.UntilKey("update", locked[0])
}

// What becomes of a database's error is logged with the key and without the secret,
// which the message of a policy that fails may well hold.
func TestAnErrorOfAPolicyDoesNotShowTheSecret(t *testing.T) {
	const secret = "token-4f0c" // without the mark: the server's own log does show it
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id int primary key, name text, owner int); insert into items values (1, 'Tea', 1);
		alter table items enable row level security;
		create policy own on items using (owner = current_setting('app.viewer', true)::int);
		create role es_reader login; grant select on items to es_reader`)
	t.Cleanup(func() { d.Exec(t, "drop owned by es_reader cascade; drop role es_reader") })
	log := &testkit.Buffer{}
	s := nodetest.Start(t, es.Config{Logger: canary.Logger(log, canary.Output(t))})
	q := db.Rows(pgtest.Pool(t, d.URLAs("es_reader"), 1), itemSQL).AsViewer(db.Setting("app.viewer"))
	if err := es.RegisterQuery(t.Context(), s.EntitySync, "items", q, es.WithRetry(time.Millisecond, time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	p := socket.DialV2(t, s.URL)
	p.Secret(secret)
	p.Subscribe(shared.EntityKey{Entity: "items", ID: "1"})
	testkit.Until(t, "a fetch fails", func() bool { return s.Bridge.Stats().FetchesFailed > 0 })
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, "invalid input syntax") || strings.Contains(text, secret) {
		t.Errorf("the log is %s", text)
	}
}

// The viewers of a batch are read one after another, in the time of one fetch: many
// of them must not be one batch.
func TestABatchHasFewViewers(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id int primary key, name text); insert into items values (1, 'Tea');
		alter table items enable row level security;
		create policy anybody on items using (current_setting('app.viewer', true) <> '');
		create role es_many login; grant select on items to es_many`)
	t.Cleanup(func() { d.Exec(t, "drop owned by es_many cascade; drop role es_many") })
	var mu sync.Mutex
	viewers := make(map[context.Context]int) // of each fetch
	q := db.Batch(pgtest.Pool(t, d.URLAs("es_many"), 2), itemsSQL).AsViewer(func(ctx context.Context, secret string) (map[string]string, error) {
		mu.Lock()
		defer mu.Unlock()
		viewers[ctx]++
		return map[string]string{"app.viewer": secret}, nil
	})
	s := nodetest.Start(t, es.Config{})
	if err := es.RegisterQuery(t.Context(), s.EntitySync, "items", q); err != nil {
		t.Fatal(err)
	}
	key := shared.EntityKey{Entity: "items", ID: "1"}
	pages := make([]*socket.Conn, 150)
	for i := range pages {
		pages[i] = socket.DialV2(t, s.URL)
		pages[i].Secret(fmt.Sprint("viewer ", i))
		pages[i].Subscribe(key)
		pages[i].UntilKey("update", key)
	}
	if err := s.Notify(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		p.UntilKey("update", key)
	}
	mu.Lock()
	defer mu.Unlock()
	most := 0
	for _, n := range viewers {
		most = max(most, n)
	}
	if most != 100 {
		t.Errorf("a fetch had %d viewers, want 100", most)
	}
}
