package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/shared"
)

// postgres is a PostgreSQL of the tests' own. All tests use the same one, each
// with a database of its own in it.
type postgres struct {
	dir, program string
	port         int
	who          *syscall.SysProcAttr
	server       *exec.Cmd
	databases    int
}

var (
	thePostgres  *postgres
	postgresOnce sync.Once
	errPostgres  error
)

// sharedPostgres starts it for the first test that needs it.
func sharedPostgres(t testing.TB) *postgres {
	t.Helper()
	postgresOnce.Do(func() { thePostgres, errPostgres = newPostgres() })
	if errPostgres != nil {
		t.Fatalf("starting PostgreSQL: %v", errPostgres)
	}
	kept := filepath.Join(t.ArtifactDir(), "postgres.log")
	t.Cleanup(func() {
		log, err := os.ReadFile(thePostgres.log())
		if err = firstError(err, os.WriteFile(kept, log, 0o600)); err != nil {
			t.Error(err)
		}
	})
	return thePostgres
}

// endPostgres leaves nothing of it. It is called when all tests have ended.
func endPostgres() error {
	if thePostgres == nil {
		return nil
	}
	thePostgres.stop()
	return os.RemoveAll(thePostgres.dir)
}

func newPostgres() (*postgres, error) {
	initdb, err := findPostgres("initdb")
	if err != nil {
		return nil, err
	}
	program, err := findPostgres("postgres")
	if err != nil {
		return nil, err
	}
	// Below the folder for all users: root is not allowed to run PostgreSQL.
	dir, err := os.MkdirTemp("", "entity-sync-faults-")
	if err != nil {
		return nil, err
	}
	p := &postgres{dir: dir, program: program}
	if err := p.create(initdb); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

func (p *postgres) create(initdb string) (err error) {
	if p.who, err = unprivileged(p.dir); err != nil {
		return err
	}
	cmd := exec.Command(initdb, "-D", p.data(), "-U", "faults", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = p.dir, p.who
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if p.port, err = freePort(); err != nil {
		return err
	}
	return p.start()
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) log() string { return filepath.Join(p.dir, "log") }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// start starts the server, also after stop, and waits until it takes connections.
func (p *postgres) start() error {
	log, err := os.OpenFile(p.log(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		p.server = exec.Command(p.program, "-D", p.data(), "-k", p.dir, "-p", strconv.Itoa(p.port),
			"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200")
		p.server.Dir, p.server.SysProcAttr, p.server.Stderr = p.dir, p.who, log
		if err := p.server.Start(); err != nil {
			return err
		}
		err := p.untilUp(end)
		if err == nil || time.Now().After(end) {
			return err
		}
		// What is left of the one before may still be ending.
		p.stop()
	}
}

func (p *postgres) untilUp(end time.Time) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, p.address("postgres"))
		cancel()
		if err == nil {
			return conn.Close(context.Background())
		}
		if time.Now().After(end) || p.ended() {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ended reports whether the server is no more. It is not waited for yet.
func (p *postgres) ended() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.server.Process.Pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// stop ends it as pg_ctl stop -m immediate does: without a word to its clients,
// to recover from its log at the next start.
func (p *postgres) stop() {
	if p.server == nil {
		return
	}
	_ = p.server.Process.Signal(syscall.SIGQUIT)
	_ = p.server.Wait()
	p.server = nil
}

func (p *postgres) address(database string) string { return postgresAddress(p.host(), database) }

func (p *postgres) host() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

func postgresAddress(host, database string) string {
	return fmt.Sprintf("postgres://faults@%s/%s?sslmode=disable", host, database)
}

// database is one test's own.
type database struct {
	server *postgres
	name   string
}

// newDatabase makes a database with the tables of the nodes.
func newDatabase(t testing.TB, p *postgres) *database {
	t.Helper()
	p.databases++
	db := &database{p, fmt.Sprintf("test%d", p.databases)}
	exec := func(database, sql string) {
		t.Helper()
		conn := connect(t, p.address(database))
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("postgres", "create database "+db.name)
	schema := "create sequence lives;"
	for _, entity := range entityTypes {
		schema += fmt.Sprintf("create table %s (id text primary key, owner text not null, nonce bigint not null, rev bigint not null);", entity)
	}
	exec(db.name, schema)
	return db
}

// connect opens a connection that the caller closes.
func connect(t testing.TB, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatalf("connecting to PostgreSQL: %v", err)
	}
	return conn
}

func (db *database) address() string { return db.server.address(db.name) }

func (db *database) connect(t testing.TB) *pgx.Conn { return connect(t, db.address()) }

// rows reads what all clients are to end up with.
func (db *database) rows(t testing.TB) map[shared.EntityKey]row {
	t.Helper()
	conn := db.connect(t)
	defer conn.Close(context.Background())
	all := make(map[shared.EntityKey]row)
	for _, entity := range entityTypes {
		rs, err := conn.Query(t.Context(), fmt.Sprintf("select id, owner, nonce, rev from %s", entity))
		if err != nil {
			t.Fatal(err)
		}
		r := row{Entity: entity}
		_, err = pgx.ForEachRow(rs, []any{&r.ID, &r.Owner, &r.Nonce, &r.Rev}, func() error {
			all[r.key()] = r
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// create writes rows with revision 1, one for each id; owner may be empty.
func (db *database) create(t testing.TB, entity shared.EntityType, owner string, ids ...string) {
	t.Helper()
	conn := db.connect(t)
	defer conn.Close(context.Background())
	sql := fmt.Sprintf("insert into %s (id, owner, nonce, rev) select id, $2, nextval('lives'), 1 from unnest($1::text[]) id", entity)
	if _, err := conn.Exec(t.Context(), sql, ids, owner); err != nil {
		t.Fatal(err)
	}
}

// connections counts those of one node, by the name it has given them.
func connections(ctx context.Context, conn *pgx.Conn, node string) (n int, err error) {
	err = conn.QueryRow(ctx, "select count(*) from pg_stat_activity where application_name = $1", node).Scan(&n)
	return n, err
}

// unprivileged makes dir somebody's who may run PostgreSQL: the user postgres
// where the test is run by root, otherwise whoever runs it.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("root may not run PostgreSQL, and there is no user postgres (%w): install the Debian package postgresql", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
		return nil, fmt.Errorf("giving %s to the user postgres: %w", dir, err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func findPostgres(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	// Where Debian puts it, off the path.
	paths, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	if err != nil || len(paths) == 0 {
		return "", fmt.Errorf("%s is missing: install the Debian package postgresql", program)
	}
	return paths[len(paths)-1], nil
}
