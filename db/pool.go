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
	// statementTimeout ends the statement of a fetch that was given up, if its cancellation
	// got lost.
	statementTimeout = 30 * time.Second

	// idleInTransactionTimeout ends a transaction whose node has gone without closing its
	// connection.
	idleInTransactionTimeout = 30 * time.Second

	// cancelGrace is how long a cancelled statement may take to end before its
	// connection is given up.
	cancelGrace = 5 * time.Second
)

// ParseConfig is pgxpool.ParseConfig with the settings that fetching needs. Change the result
// as you like and pass it to pgxpool.NewWithConfig.
//
// A fetch that ends early cancels its statement and keeps the connection, so that slow queries
// do not cause a storm of new connections. Unless connString says otherwise, statement_timeout
// and idle_in_transaction_session_timeout are 30 s.
func ParseConfig(connString string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("db: %w", err)
	}
	c.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelGrace}
	}
	if _, set := c.ConnConfig.RuntimeParams["client_encoding"]; !set {
		c.ConnConfig.RuntimeParams["client_encoding"] = "UTF8" // as ids and rows are, whatever the database's encoding is
	}
	for name, d := range map[string]time.Duration{
		"statement_timeout":                   statementTimeout,
		"idle_in_transaction_session_timeout": idleInTransactionTimeout,
	} {
		// A value in options, "-c name=value", would lose against one that is set here.
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
