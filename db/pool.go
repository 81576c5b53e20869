package db

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// statementTimeout is for a statement whose fetch was given up and whose
	// cancellation got lost.
	statementTimeout = 30 * time.Second

	// idleInTransactionTimeout is for a transaction whose node is gone without a
	// word.
	idleInTransactionTimeout = 30 * time.Second

	// cancelGrace is how long a cancelled statement may take to end before its
	// connection is given up.
	cancelGrace = 5 * time.Second
)

// ParseConfig is pgxpool.ParseConfig with the settings that serving fetches needs.
// Change of it what you like and hand it to pgxpool.NewWithConfig.
//
// A fetch that ends early cancels its statement rather than costing the
// connection, so that slow queries do not turn into a storm of new connections.
// Unless connString says otherwise, statement_timeout and
// idle_in_transaction_session_timeout are 30 s.
func ParseConfig(connString string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("db: %w", err)
	}
	c.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelGrace}
	}
	if _, set := c.ConnConfig.RuntimeParams["client_encoding"]; !set {
		c.ConnConfig.RuntimeParams["client_encoding"] = "UTF8" // ids and rows are, whatever the database is
	}
	for name, d := range map[string]time.Duration{
		"statement_timeout":                   statementTimeout,
		"idle_in_transaction_session_timeout": idleInTransactionTimeout,
	} {
		// In options, "-c name=value", it would lose against what is set here.
		if _, set := c.ConnConfig.RuntimeParams[name]; !set && !strings.Contains(c.ConnConfig.RuntimeParams["options"], name) {
			c.ConnConfig.RuntimeParams[name] = fmt.Sprint(d.Milliseconds())
		}
	}
	return c, nil
}

// Open returns a pool made of ParseConfig. It connects when it is first used. The
// caller closes it, after the EntitySync that reads from it.
func Open(ctx context.Context, connString string) (*pgxpool.Pool, error) {
	c, err := ParseConfig(connString)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("db: %w", err)
	}
	return pool, nil
}
