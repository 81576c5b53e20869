package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/entity-sync/entity-sync/internal/freeport"
)

// Bouncer is a PgBouncer in front of a server, at the same address whenever it runs. It
// pools by transaction, and keeps no prepared statements.
type Bouncer struct {
	dir, program string
	port         int
	who          *syscall.SysProcAttr
	process      *exec.Cmd
}

// StartBouncer starts a PgBouncer with n connections to the server for each role and
// database, until the test ends. It lets in the owner of the cluster and the roles.
func (s *Server) StartBouncer(t testing.TB, n int, roles ...string) *Bouncer {
	t.Helper()
	b := &Bouncer{}
	var err error
	if b.program, err = findBouncer(); err != nil {
		t.Fatal(err)
	}
	if b.dir, err = os.MkdirTemp("", "entity-sync-pgbouncer-"); err != nil { // root is not allowed to run it either
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Stop()
		if err := os.RemoveAll(b.dir); err != nil {
			t.Error(err)
		}
	})
	if b.who, err = unprivileged(b.dir); err == nil {
		b.port, err = freeport.Port()
	}
	if err == nil {
		err = b.configure(s, n, roles)
	}
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Bouncer) configure(s *Server, n int, roles []string) error {
	var users strings.Builder
	for _, role := range append([]string{superuser}, roles...) {
		fmt.Fprintf(&users, "%q \"\"\n", role)
	}
	settings := []string{
		"[databases]", fmt.Sprintf("* = host=127.0.0.1 port=%d", s.port),
		"[pgbouncer]", "listen_addr = 127.0.0.1", fmt.Sprintf("listen_port = %d", b.port), "unix_socket_dir =",
		"auth_type = trust", fmt.Sprintf("auth_file = %s", filepath.Join(b.dir, "users")),
		"pool_mode = transaction", fmt.Sprintf("default_pool_size = %d", n), "max_client_conn = 1000",
		// So the library's docs have it.
		"ignore_startup_parameters = statement_timeout,idle_in_transaction_session_timeout",
		"server_login_retry = 0.1",
	}
	version, err := exec.Command(b.program, "--version").Output()
	if err != nil {
		return err
	}
	if keepsStatements(string(version)) {
		settings = append(settings, "max_prepared_statements = 0")
	}
	return errors.Join(
		os.WriteFile(filepath.Join(b.dir, "users"), []byte(users.String()), 0o644),                            //nolint:gosec // the user postgres reads it
		os.WriteFile(filepath.Join(b.dir, "pgbouncer.ini"), []byte(strings.Join(settings, "\n")+"\n"), 0o644)) //nolint:gosec // likewise
}

// keepsStatements reports whether a PgBouncer knows the setting max_prepared_statements:
// from 1.21 on.
func keepsStatements(version string) bool {
	fields := strings.Fields(version) // PgBouncer 1.18.0 …
	if len(fields) < 2 {
		return false
	}
	parts := strings.Split(fields[1], ".")
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 1 || minor >= 21)
}

// Start starts the PgBouncer, also after Stop, and waits until it takes connections.
func (b *Bouncer) Start() error {
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	b.process = exec.Command(b.program, filepath.Join(b.dir, "pgbouncer.ini"))
	b.process.Dir, b.process.SysProcAttr, b.process.Stderr = b.dir, b.who, log
	if err := b.process.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := b.answers()
		if err == nil {
			return nil
		}
		if time.Now().After(end) || ended(b.process) {
			said, _ := os.ReadFile(filepath.Join(b.dir, "log"))
			return fmt.Errorf("PgBouncer does not start: %w\n%s", err, said)
		}
	}
}

// answers returns nil once the PgBouncer has a word for a client, if only that its console
// is not for everybody.
func (b *Bouncer) answers() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, urlOf(b.Addr(), superuser, "pgbouncer"))
	if _, answered := errors.AsType[*pgconn.PgError](err); answered {
		return nil
	}
	if err == nil {
		err = conn.Close(ctx)
	}
	return err
}

// Stop ends the PgBouncer without a word to its clients.
func (b *Bouncer) Stop() {
	if b.process == nil {
		return
	}
	_ = b.process.Process.Kill()
	_ = b.process.Wait()
	b.process = nil
}

// Addr is the PgBouncer's host:port.
func (b *Bouncer) Addr() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

// URL is the server's URL through the PgBouncer, with one of pgx's modes; none is pgx's
// default.
func (b *Bouncer) URL(server, mode string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(err) // Server makes them
	}
	u.Host = b.Addr()
	if mode != "" {
		u.RawQuery += "&default_query_exec_mode=" + mode
	}
	return u.String()
}

// IgnoresNothing starts the PgBouncer anew as one that refuses settings which it does not
// know.
func (b *Bouncer) IgnoresNothing(t testing.TB) {
	t.Helper()
	b.Stop()
	path := filepath.Join(b.dir, "pgbouncer.ini")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(text), "\nignore_", "\n;ignore_", 1)), 0o644) //nolint:gosec // the user postgres reads it
	}
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func findBouncer() (string, error) {
	for _, path := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} { // where Debian puts it, off the path of users
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", errors.New("pgbouncer is missing: install the Debian package pgbouncer")
}
