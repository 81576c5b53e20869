package db_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// newViewed returns a pool of n connections whose role sees only the items of the
// viewer that app.viewer names, and a database to change them in.
func newViewed(t *testing.T, n int32) (*pgtest.Database, *pgxpool.Pool) {
	t.Helper()
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id int, owner text, text text);
		alter table items enable row level security;
		create policy own on items using (owner = nullif(current_setting('app.viewer', true), ''))`)
	return d, pgtest.PatientPool(t, d.URLAs(d.NewRole(t, "grant select on items to %s")), n)
}

func TestAsViewer(t *testing.T) {
	d, pool := newViewed(t, 1)
	d.Exec(t, "insert into items values (1, 'ann', 'a'), (1, 'bob', 'b'), (2, 'bob', 'c'), (3, '', 'nobody''s')")
	for name, q := range map[string]*db.Query{
		"Rows":  db.Rows(pool, "select text from items where id = $1"),
		"twice": db.Rows(pool, "select text from items where id = $1", "select text from items where id = $1 and false"),
		"Batch": db.Batch(pool, "select id, text from items where id = any($1)"),
	} {
		q := q.AsViewer(db.Setting("app.viewer"))
		var requests []shared.FetchRequest
		for _, secret := range []string{"ann", "bob", "", "eve' or true --"} {
			for _, id := range []string{"1", "2", "3"} {
				requests = append(requests, shared.FetchRequest{Key: idOf(id), Secret: shared.NewSecret(secret)})
			}
		}
		results := q.FetchBatch(t.Context(), requests)
		for i, text := range []string{"a", "", "", "b", "c", "", "", "", "", "", "", ""} {
			r := results[i]
			switch {
			case text == "" && (!errors.Is(r.Err, shared.ErrNotFound) || len(r.Rows) > 0):
				t.Errorf("%s: %s for %q: %q, %v, want nothing", name, requests[i].Key.ID, requests[i].Secret.Reveal(), r.Rows, r.Err)
			case text != "" && (len(r.Rows) != 1 || !strings.Contains(string(r.Rows[0]), fmt.Sprintf(`"text":%q`, text))):
				t.Errorf("%s: %s for %q: %q, %v, want %q", name, requests[i].Key.ID, requests[i].Secret.Reveal(), r.Rows, r.Err, text)
			}
		}
	}
}

func TestClaims(t *testing.T) {
	d, pool := newViewed(t, 1)
	d.Exec(t, "insert into items values (1, 'ann', 'a')")
	failure := errors.New("the directory is down")
	var mu sync.Mutex
	asked := make(map[string]int)
	q := db.Batch(pool, "select id, text from items where id = any($1)").AsViewer(func(_ context.Context, secret string) (map[string]string, error) {
		mu.Lock()
		asked[secret]++
		mu.Unlock()
		switch secret {
		case "out":
			return nil, shared.ErrForbidden
		case "down":
			return nil, failure
		case "root":
			return map[string]string{"role": "owner"}, nil
		}
		return map[string]string{"app.viewer": strings.TrimPrefix(secret, canary.Mark+" of "), "app.tenant": "7"}, nil
	})
	var requests []shared.FetchRequest
	for _, secret := range []string{canary.Mark + " of ann", "out", "down", "root", canary.Mark + " of ann"} {
		requests = append(requests, shared.FetchRequest{Key: idOf("1"), Secret: shared.NewSecret(secret)})
	}
	results := q.FetchBatch(t.Context(), requests)
	for _, i := range []int{0, 4} {
		want(t, "ann", results[i].Rows, results[i].Err, `{"id":1,"text":"a"}`)
	}
	if !errors.Is(results[1].Err, shared.ErrForbidden) || !errors.Is(results[2].Err, failure) {
		t.Errorf("the errors of claims became %v and %v", results[1].Err, results[2].Err)
	}
	if err := results[3].Err; err == nil || !strings.Contains(err.Error(), "has no dot") {
		t.Errorf("a claim that is a setting of PostgreSQL's own: %v", err)
	}
	if asked[canary.Mark+" of ann"] != 1 {
		t.Errorf("claims were asked for %d times, want once for a batch", asked[canary.Mark+" of ann"])
	}
}

// What a client makes up as its secret ends its subscription, and fails nothing.
func TestASecretThatIsNoText(t *testing.T) {
	_, pool := newViewed(t, 1)
	q := db.Rows(pool, "select text from items where id = $1").AsViewer(db.Setting("app.viewer"))
	for _, secret := range []string{"a\x00b", "\xff"} {
		if rows, err := q.Fetch(t.Context(), idOf("1"), secret); !errors.Is(err, shared.ErrForbidden) {
			t.Errorf("%q gets %q, %v", secret, rows, err)
		}
	}
}

// A secret whose claims cannot be had costs nobody else in the batch their rows.
func TestClaimsThatMisbehave(t *testing.T) {
	d, pool := newViewed(t, 1)
	d.Exec(t, "insert into items values (1, 'ann', 'a')")
	for name, misbehave := range map[string]func(context.Context){
		"panic":               func(context.Context) { panic(canary.Mark + " of eve") },
		"hang":                func(ctx context.Context) { <-ctx.Done() },
		"end their goroutine": func(context.Context) { runtime.Goexit() },
	} {
		q := db.Batch(pool, "select id, text from items where id = any($1)").AsViewer(func(ctx context.Context, secret string) (map[string]string, error) {
			if strings.HasPrefix(secret, "eve") {
				misbehave(ctx)
				return nil, ctx.Err()
			}
			return map[string]string{"app.viewer": secret}, nil
		})
		var requests []shared.FetchRequest
		for _, secret := range []string{"eve1", "eve2", "ann", "eve3"} {
			requests = append(requests, shared.FetchRequest{Key: idOf("1"), Secret: shared.NewSecret(secret)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		results := q.FetchBatch(ctx, requests)
		if ctx.Err() != nil {
			t.Errorf("%s: it took all of the time", name)
		}
		cancel()
		for i, r := range results {
			if i == 2 {
				want(t, name, r.Rows, r.Err, `{"id":1,"text":"a"}`)
			} else if r.Err == nil || errors.Is(r.Err, shared.ErrNotFound) || strings.Contains(r.Err.Error(), canary.Mark) {
				t.Errorf("%s: %q, %v", name, r.Rows, r.Err)
			}
		}
	}
}

// Whatever becomes of a fetch, the next user of its connection is nobody.
func TestNothingOfAViewerStaysOnAConnection(t *testing.T) {
	d, pool := newViewed(t, 1)
	d.Exec(t, "insert into items values (1, 'ann', 'a')")
	observer := d.Connect(t)
	item := "select text from items where id = $1"
	for name, run := range map[string]func(q func(string) *db.Query) error{
		"a fetch": func(q func(string) *db.Query) error {
			_, err := q(item).Fetch(t.Context(), idOf("1"), "ann")
			return err
		},
		"one that fails": func(q func(string) *db.Query) error {
			if _, err := q("select text::int from items where id = $1").Fetch(t.Context(), idOf("1"), "ann"); err == nil {
				return errors.New("it did not fail")
			}
			return nil
		},
		"one that is cancelled": func(q func(string) *db.Query) error {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := q("select text, pg_sleep(600)::text from items where id = $1").Fetch(ctx, idOf("1"), "ann")
				done <- err
			}()
			testkit.Until(t, "it sleeps", func() (sleeps bool) {
				err := observer.QueryRow(t.Context(), "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')").Scan(&sleeps)
				return err == nil && sleeps
			})
			cancel()
			if <-done == nil {
				return errors.New("it was not cancelled")
			}
			return nil
		},
		"one that is given up in the middle": func(q func(string) *db.Query) error {
			if _, err := q("select text, n from items, generate_series(1, 1000000) n where id = $1").Fetch(t.Context(), idOf("1"), "ann"); err == nil {
				return errors.New("it was not given up")
			}
			return nil
		},
	} {
		pid := backend(t, pool)
		if err := run(func(sql string) *db.Query { return db.Rows(pool, sql).AsViewer(db.Setting("app.viewer")) }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var left string
		var rows, now int
		err := pool.QueryRow(t.Context(), "select coalesce(current_setting('app.viewer', true), ''), pg_backend_pid(), (select count(*) from items)").Scan(&left, &now, &rows)
		if err != nil || left != "" || rows != 0 {
			t.Errorf("after %s: the setting is %q and %d rows are seen, %v", name, left, rows, err)
		}
		if now != pid {
			t.Errorf("after %s: the connection was given up", name)
		}
	}
}

// Several goroutines, a pool of few connections and viewers at random, with fetches
// that end early: nobody ever gets what is another's.
func TestViewersAtRandom(t *testing.T) {
	d, pool := newViewed(t, 3)
	d.Exec(t, "insert into items select i, 'v' || v, 'v' || v from generate_series(1, 10) i, generate_series(1, 20) v")
	batch := db.Batch(pool, "select id, text from items where id = any($1)").AsViewer(db.Setting("app.viewer"))
	one := db.Rows(pool, "select id, text from items where id = $1").AsViewer(db.Setting("app.viewer"))
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			for range 300 {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if rnd.IntN(4) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(2000))*time.Microsecond)
				}
				var requests []shared.FetchRequest
				for range 1 + rnd.IntN(5) {
					requests = append(requests, shared.FetchRequest{Key: idOf(fmt.Sprint(1 + rnd.IntN(10))), Secret: shared.NewSecret(fmt.Sprint("v", 1+rnd.IntN(20)))})
				}
				q := batch
				if rnd.IntN(2) == 0 {
					q = one
				}
				for i, r := range q.FetchBatch(ctx, requests) {
					who := fmt.Sprintf(`{"id":%s,"text":%q}`, requests[i].Key.ID, requests[i].Secret.Reveal())
					// The cancellation of the fetch before may come late and end this one, on a
					// machine that is busy; the engine fetches again.
					pgErr, ok := errors.AsType[*pgconn.PgError](r.Err)
					late := ok && pgErr.Code == "57014"
					if r.Err == nil && (len(r.Rows) != 1 || string(r.Rows[0]) != who) || r.Err != nil && ctx.Err() == nil && !late {
						t.Errorf("%q, %v, want %s", r.Rows, r.Err, who)
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// A query whose policies do not apply is refused, and what the error says mends it.
func TestCheckRefusesARoleThatBypassesPolicies(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `
		create table items (id int, owner text);
		create table people (id int);
		create view listed as select * from items`)
	role := d.NewRole(t, "grant select on items, people, listed to %s")
	pool := pgtest.Pool(t, d.URLAs(role), 2)
	check := func(pool *pgxpool.Pool, table string) error {
		return db.Rows(pool, "select id from "+table+" where id = $1").AsViewer(db.Setting("app.viewer")).Check(t.Context())
	}
	refused := func(err error, why string) {
		t.Helper()
		if !errors.Is(err, db.ErrBadQuery) || !strings.Contains(err.Error(), why) {
			t.Errorf("Check returned %v, want %q", err, why)
		}
	}
	refused(check(pgtest.Pool(t, d.URL(), 1), "items"), `the role "owner" bypasses row-level security`)
	refused(check(pool, "items"), "run ALTER TABLE ... ENABLE ROW LEVEL SECURITY")
	d.Exec(t, "alter table items enable row level security")
	refused(check(pool, "items"), "no policy of items ever shows a row to the role "+role)
	d.Exec(t, "create policy anything on items using (true)")
	if err := check(pool, "items"); err != nil {
		t.Errorf("with row-level security: %v", err)
	}
	if err := check(pool, "items natural join people"); err != nil {
		t.Errorf("with another table that has none: %v", err)
	}
	refused(check(pool, "people"), "no table that is read has row-level security")
	refused(db.Rows(pool, "select id from items where id = $1", "select id from people where id = $1").AsViewer(db.Setting("app.viewer")).Check(t.Context()),
		"statement 2 of 2: bad query: no table that is read has row-level security")
	refused(check(pool, "listed"), "run ALTER VIEW listed SET (security_invoker = true)")
	d.Exec(t, "alter view listed set (security_invoker = true)")
	if err := check(pool, "listed"); err != nil {
		t.Errorf("with a view that reads with the rights of who asks: %v", err)
	}
	d.Exec(t, "revoke select on people from "+role)
	refused(check(pool, "items natural join people"), "permission denied for table people")
	d.Exec(t, "grant select on people to "+role)
	d.Exec(t, "alter table items owner to "+role)
	refused(check(pool, "items"), "run ALTER TABLE items FORCE ROW LEVEL SECURITY")
	refused(check(pool, "items natural join people"), "run ALTER TABLE items FORCE ROW LEVEL SECURITY")
	d.Exec(t, "alter table items force row level security")
	if err := check(pool, "items"); err != nil {
		t.Errorf("forced: %v", err)
	}
	d.Exec(t, "alter role "+role+" bypassrls")
	refused(check(pool, "items"), "bypasses row-level security")
}
