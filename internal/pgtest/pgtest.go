// Package pgtest runs a real PostgreSQL for a test binary: a cluster of its own,
// made from the programs that are installed and thrown away at the end, in which
// each test has a database of its own. It can be stopped and started again.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/freeport"
)

// patience is how long the server may take to start or to stop.
const patience = time.Minute

// superuser is the role that owns the cluster. It bypasses row-level security.
const superuser = "owner"

// Server is a PostgreSQL at the same address whenever it runs.
type Server struct {
	dir, program string
	port         int
	who          *syscall.SysProcAttr
	process      *exec.Cmd

	mu        sync.Mutex
	databases int
}

var (
	shared     *Server
	sharedOnce sync.Once
	errShared  error
)

// Shared returns the test binary's server, which starts for the first test that
// needs it. TestMain must call End.
func Shared(t testing.TB) *Server {
	t.Helper()
	sharedOnce.Do(func() { shared, errShared = New() })
	if errShared != nil {
		t.Fatalf("starting PostgreSQL: %v", errShared)
	}
	return shared
}

// End leaves nothing of the shared server. It is called when all tests have ended.
func End() error {
	if shared == nil {
		return nil
	}
	return shared.Close()
}

// New starts a server. Its settings, such as "max_connections=20", come on top
// of those that make it quick: nothing of it need survive the machine.
func New(settings ...string) (*Server, error) {
	initdb, err := find("initdb")
	if err != nil {
		return nil, err
	}
	program, err := find("postgres")
	if err != nil {
		return nil, err
	}
	// Below the folder for all users: root is not allowed to run PostgreSQL.
	dir, err := os.MkdirTemp("", "entity-sync-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, program: program}
	if err := s.create(initdb, settings); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *Server) create(initdb string, settings []string) (err error) {
	if s.who, err = unprivileged(s.dir); err != nil {
		return err
	}
	cmd := exec.Command(initdb, "-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = s.dir, s.who
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if s.port, err = freeport.Port(); err != nil {
		return err
	}
	quick := []string{"fsync=off", "max_connections=400", "listen_addresses='127.0.0.1'",
		fmt.Sprintf("port=%d", s.port), fmt.Sprintf("unix_socket_directories='%s'", s.dir)}
	if err := s.set(append(quick, settings...)...); err != nil {
		return err
	}
	return s.Start()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Start starts the server, also after Stop, and waits until it takes connections.
func (s *Server) Start() error {
	log, err := os.OpenFile(s.LogFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		s.process = exec.Command(s.program, "-D", s.data())
		s.process.Dir, s.process.SysProcAttr, s.process.Stderr = s.dir, s.who, log
		if err := s.process.Start(); err != nil {
			return err
		}
		err := s.untilUp(end)
		if err == nil || time.Now().After(end) {
			return err
		}
		// Processes of the server that was stopped may still be ending.
		s.Stop()
	}
}

func (s *Server) untilUp(end time.Time) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, s.URL(superuser, "postgres"))
		cancel()
		if err == nil {
			var data string // of another server, if that has taken the port meanwhile
			err = errors.Join(conn.QueryRow(context.Background(), "show data_directory").Scan(&data), conn.Close(context.Background()))
			if err == nil && data != s.data() {
				err = fmt.Errorf("port %d is that of another server, of %s", s.port, data)
			}
			if err == nil {
				return nil
			}
		}
		if time.Now().After(end) || ended(s.process) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ended reports whether the process is no more. It is not waited for yet.
func ended(process *exec.Cmd) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Process.Pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// Stop ends the server as pg_ctl stop -m immediate does: without a word to its
// clients, to recover from its log at the next start.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGQUIT)
	_ = s.process.Wait()
	s.process = nil
}

// NewStandby starts a standby that follows the server.
func (s *Server) NewStandby() (*Server, error) {
	backup, err := find("pg_basebackup")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "entity-sync-postgres-")
	if err != nil {
		return nil, err
	}
	standby := &Server{dir: dir, program: s.program}
	err = standby.follow(s, backup)
	if err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

func (s *Server) follow(primary *Server, backup string) (err error) {
	if s.who, err = unprivileged(s.dir); err != nil {
		return err
	}
	cmd := exec.Command(backup, "-D", s.data(), "-d", primary.URL(superuser, "postgres"), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = s.dir, s.who
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	if s.port, err = freeport.Port(); err != nil {
		return err
	}
	if err := s.set(fmt.Sprintf("port=%d", s.port), fmt.Sprintf("unix_socket_directories='%s'", s.dir)); err != nil {
		return err
	}
	return s.Start()
}

// set adds settings to those of the server that has not started yet.
func (s *Server) set(settings ...string) error {
	conf, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString("\n" + strings.Join(settings, "\n") + "\n")
	return errors.Join(err, conf.Close())
}

// MakeStandby starts the server anew as a standby that follows no other server: it can be
// read, and nothing can be written.
func (s *Server) MakeStandby() error {
	s.Stop()
	if err := os.WriteFile(filepath.Join(s.data(), "standby.signal"), nil, 0o600); err != nil {
		return err
	}
	return s.Start()
}

// Close stops the server and deletes all that is its.
func (s *Server) Close() error {
	s.Stop()
	return os.RemoveAll(s.dir)
}

// CloseAtEnd closes the server when the test ends.
func (s *Server) CloseAtEnd(t testing.TB) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// LogFile is where the server logs.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "log") }

// Addr is the server's host:port.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// URL says how to connect to a database as a role.
func (s *Server) URL(role, database string) string { return urlOf(s.Addr(), role, database) }

func urlOf(addr, role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: addr, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Database is one test's own.
type Database struct {
	Server *Server
	Name   string
}

// NewDatabase makes a database and runs the statements in it. A server that is the
// test's own must not be closed before the test's cleanups.
func (s *Server) NewDatabase(t testing.TB, statements ...string) *Database {
	t.Helper()
	s.mu.Lock()
	s.databases++
	d := &Database{s, fmt.Sprintf("test%d", s.databases)}
	s.mu.Unlock()
	(&Database{s, "postgres"}).Exec(t, "create database "+d.Name)
	s.keepLog(t, d)
	for _, sql := range statements {
		d.Exec(t, sql)
	}
	return d
}

// keepLog has the server's log searched for secrets, with what else the test leaves. A
// benchmark leaves none: its folder is gone when its function is called again.
func (s *Server) keepLog(t testing.TB, d *Database) {
	t.Helper()
	if _, benchmark := t.(*testing.B); benchmark {
		return
	}
	if _, err := d.Connect(t).Exec(context.Background(), fmt.Sprintf("select 1/0 as %q", canary.Decoy(canary.Database))); err == nil {
		t.Error("dividing by zero works")
	}
	kept := filepath.Join(t.ArtifactDir(), "postgres.log")
	t.Cleanup(func() {
		log, err := os.ReadFile(s.LogFile())
		if err == nil {
			err = os.WriteFile(kept, log, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// URL says how to connect as the owner of the cluster.
func (d *Database) URL() string { return d.Server.URL(superuser, d.Name) }

// URLAt is URL where the server is reached at another address, such as a proxy's.
func (d *Database) URLAt(addr string) string { return urlOf(addr, superuser, d.Name) }

// URLAs says how to connect as a role of the test's.
func (d *Database) URLAs(role string) string { return d.Server.URL(role, d.Name) }

// NewRole makes a role that may log in and do what the grants say, until the test ends. %s
// in the grants is its name.
func (d *Database) NewRole(t testing.TB, grants string) string {
	t.Helper()
	name := "role_" + d.Name
	d.Exec(t, "create role "+name+" login")
	t.Cleanup(func() { d.Exec(t, fmt.Sprintf("drop owned by %s cascade; drop role %[1]s", name)) })
	d.Exec(t, fmt.Sprintf(grants, name))
	return name
}

// Exec runs SQL as the owner of the cluster: one statement with arguments, or any
// number without. Its connection is closed again: a test may call Exec often.
func (d *Database) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	conn := d.dial(t)
	_, err := conn.Exec(context.Background(), sql, args...)
	_ = conn.Close(context.Background())
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Connect connects as the owner of the cluster, until the test ends.
func (d *Database) Connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn := d.dial(t)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (d *Database) dial(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), d.URL())
	if err != nil {
		t.Fatalf("connecting to PostgreSQL: %v", err)
	}
	return conn
}

func find(program string) (string, error) {
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
