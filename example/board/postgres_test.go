//go:build unix

package main

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/entity-sync/entity-sync/internal/canary"
)

// TestPostgreSQL runs the board on PostgreSQL: rows written on one node arrive
// on the other, and are there when the board is started again.
func TestPostgreSQL(t *testing.T) {
	config := Config{DatabaseURL: startPostgres(t)}
	var id string
	t.Run("first start", func(t *testing.T) {
		d := startDemo(t, config)
		id = addItem(t, d.Nodes[0], "Kettle")
		w := watch(t, d.Nodes[1], managerSecret)
		w.subscribe("board", "all")
		w.until("the list", func(row map[string]any) bool {
			return slices.Contains(row["items"].([]any), any(id)) && len(row["items"].([]any)) == len(samples)+1
		})
		w.subscribe("board-items", id)
		w.until("the snapshot", isItem)
		for body, changed := range map[string]func(row map[string]any) bool{
			`{"add":-3}`:        func(row map[string]any) bool { return row["quantity"] == 7.0 },
			`{"costCents":123}`: func(row map[string]any) bool { return row["costCents"] == 123.0 },
			`{"name":"Pot"}`:    func(row map[string]any) bool { return row["name"] == "Pot" },
		} {
			send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: body})
			w.until(body, changed)
		}
		a := send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"add":-8}`})
		if a.status != 422 {
			t.Errorf("taking more than there is: %d %v, want 422", a.status, a.body)
		}
	})
	t.Run("second start", func(t *testing.T) {
		d := startDemo(t, config)
		w := watch(t, d.Nodes[1], guestSecret)
		w.subscribe("board-items", id)
		if row := w.until("the item", isItem); row["name"] != "Pot" || row["quantity"] != 7.0 {
			t.Errorf("the item is now %v", row)
		}
		w.subscribe("board", "all")
		if a := send(t, d.Nodes[0], request{method: "DELETE", path: "/api/items/" + id, secret: managerSecret}); a.status != 200 {
			t.Errorf("deleting: %d %v", a.status, a.body)
		}
		w.until("the list without it", func(row map[string]any) bool {
			items, ok := row["items"].([]any)
			return ok && len(items) == len(samples)
		})
	})
}

// startPostgres starts a PostgreSQL that is the test's own and leaves nothing,
// and returns how to connect to it.
func startPostgres(t *testing.T) string {
	t.Helper()
	initdb, postgres := findPostgres(t, "initdb"), findPostgres(t, "postgres")
	// Not t.TempDir(): its parents are for one user only, and root is not allowed
	// to run PostgreSQL.
	dir, err := os.MkdirTemp("", "board-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	who := unprivileged(t, dir)
	run := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.SysProcAttr = who
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := run(initdb, "-D", data, "-U", "board", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	// No port at all: a socket in the folder.
	server := run(postgres, "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "log_statement=all")
	server.Stderr = t.Output()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // at once; its data goes anyway
		_ = server.Wait()
	})
	dsn := (&url.URL{Scheme: "postgres", Path: "/postgres", RawQuery: url.Values{"host": {dir}, "user": {"board"}}.Encode()}).String()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	eventually(t, "PostgreSQL takes connections", func() bool { return db.PingContext(t.Context()) == nil })
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf("select 1/0 as %q", canary.Decoy(canary.BoardDatabase))); err == nil {
		t.Error("dividing by zero works")
	}
	return dsn
}

// unprivileged makes dir somebody's who may run PostgreSQL: the user postgres
// where the test is run by root, otherwise whoever runs it.
func unprivileged(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("root may not run PostgreSQL, and there is no user postgres (%v): install the Debian package postgresql", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		t.Fatalf("the user postgres has the ids %q and %q", u.Uid, u.Gid)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func findPostgres(t *testing.T, program string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	// Where Debian puts it, off the path.
	paths, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s is missing, and this test is about the board on PostgreSQL: install the Debian package postgresql", program)
	}
	return paths[len(paths)-1]
}
