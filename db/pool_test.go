package db_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/internal/pgtest"
)

// backend says which of the server's processes serves a pool of one connection.
func backend(t *testing.T, pool *pgxpool.Pool) (pid int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestACancelledFetchDoesNotCostTheConnection(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t, `create table items (id int primary key); insert into items values (1);
		alter table items enable row level security; create policy all_of_it on items using (true);
		create role reader login; grant select on items to reader`)
	t.Cleanup(func() { d.Exec(t, "drop owned by reader; drop role reader") })
	pool := pgtest.PatientPool(t, d.URLAs("reader"), 1)
	locker := d.Connect(t)
	for name, c := range map[string]struct {
		asViewer bool
		first    bool // what is cancelled is the check that comes before the first fetch
	}{
		"a statement":                    {},
		"a transaction":                  {asViewer: true},
		"the check before a statement":   {first: true},
		"the check before a transaction": {asViewer: true, first: true},
	} {
		q := db.Rows(pool, "select * from items where id = $1").WithoutViewer()
		if c.asViewer {
			q = db.Rows(pool, "select * from items where id = $1").AsViewer(db.Setting("app.viewer"))
		}
		if !c.first {
			if _, err := q.Fetch(t.Context(), idOf("1"), ""); err != nil {
				t.Fatal(err)
			}
		}
		pid := backend(t, pool)
		if _, err := locker.Exec(t.Context(), "begin; lock items in access exclusive mode"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := q.Fetch(ctx, idOf("1"), "")
		cancel()
		if err == nil {
			t.Errorf("%s: a locked table was read", name)
		}
		if now := backend(t, pool); now != pid {
			t.Errorf("%s: the connection was given up: the backend is %d, was %d", name, now, pid)
		}
		if _, err := locker.Exec(t.Context(), "rollback"); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Fetch(t.Context(), idOf("1"), ""); err != nil {
			t.Errorf("%s: after the lock: %v", name, err)
		}
	}
}

func TestAPoolOutlivesItsServer(t *testing.T) {
	s, err := pgtest.New()
	if err != nil {
		t.Fatal(err)
	}
	s.CloseAtEnd(t)
	d := s.NewDatabase(t, `create table items (id int primary key); insert into items values (1)`)
	pool := pgtest.Pool(t, d.URL(), 4)
	q := db.Rows(pool, "select * from items where id = $1")
	for what, harm := range map[string]func(){
		"every backend ended": func() {
			d.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'")
		},
		"a restart": func() {
			s.Stop()
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if _, err := q.Fetch(t.Context(), idOf("1"), ""); err != nil {
			t.Fatal(err)
		}
		harm()
		tries := 1
		for ; tries < 10; tries++ {
			if _, err = q.Fetch(t.Context(), idOf("1"), ""); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("after %s: %v", what, err)
		}
		t.Logf("after %s the fetch worked at try %d", what, tries)
	}
}

func TestParseConfigLeavesWhatIsSaid(t *testing.T) {
	c, err := db.ParseConfig("postgres://me@localhost/db?statement_timeout=5")
	if err != nil {
		t.Fatal(err)
	}
	p := c.ConnConfig.RuntimeParams
	if p["statement_timeout"] != "5" || p["idle_in_transaction_session_timeout"] != "30000" {
		t.Errorf("the settings are %v", p)
	}
	if _, err := db.ParseConfig("postgres://me@localhost/db?sslmode=perhaps"); err == nil {
		t.Error("a bad connection string was taken")
	}
}

func TestTimeoutsOfTheConnectionString(t *testing.T) {
	d := pgtest.Shared(t).NewDatabase(t)
	for what, c := range map[string]struct{ suffix, want string }{
		"nothing":     {"", "30s"},
		"a parameter": {"&statement_timeout=5000", "5s"},
		"options":     {"&options=-c%20statement_timeout%3D5s", "5s"},
	} {
		var got string
		if err := pgtest.Pool(t, d.URL()+c.suffix, 1).QueryRow(t.Context(), "show statement_timeout").Scan(&got); err != nil || got != c.want {
			t.Errorf("with %s: %s, %v, want %s", what, got, err, c.want)
		}
	}
}
