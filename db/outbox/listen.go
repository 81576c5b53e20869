package outbox

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/internal/sparing"
)

// listenerPatience is how long a connection may be silent before the relay checks whether it
// still lives.
const listenerPatience = 30 * time.Second

// listen wakes the relay whenever the outbox is written to. A wake-up that it misses costs no
// more than the wait for the relay's interval.
func (r *Relay) listen() {
	policy := backoff.Policy{Min: 100 * time.Millisecond, Max: 30 * time.Second}
	for failures := 1; ; failures++ {
		heard, err := r.hear()
		if r.stopping.Err() != nil {
			return
		}
		if heard {
			failures = 1
		}
		if sparing.Says(uint64(failures)) {
			r.log.Warn("listening to the outbox failed", slog.Int("in_a_row", failures), slog.Any("error", err))
		}
		select {
		case <-time.After(policy.Delay(failures)):
		case <-r.stopping.Done():
			return
		}
	}
}

// hear listens on a connection of its own until that breaks. It reports whether it had begun
// to listen.
func (r *Relay) hear() (heard bool, err error) {
	conn, err := r.connect()
	if err != nil {
		return false, err
	}
	defer conn.Close(context.Background())
	if err := r.ask(conn, "listen entity_sync_outbox"); err != nil {
		return false, err
	}
	if err := r.checkWakeUp(conn); err != nil {
		return false, err
	}
	for {
		r.Wake() // the first time for rows that were written before
		ctx, cancel := context.WithTimeout(r.stopping, listenerPatience)
		_, err := conn.WaitForNotification(ctx)
		silent := err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
		cancel()
		if silent {
			err = r.ask(conn, "")
		}
		if err != nil {
			return true, err
		}
	}
}

// connect opens a connection like those of the pool, beside the pool.
func (r *Relay) connect() (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(r.stopping, roundTimeout)
	defer cancel()
	c := r.config.Pool.Config()
	if c.BeforeConnect != nil {
		if err := c.BeforeConnect(ctx, c.ConnConfig); err != nil {
			return nil, err
		}
	}
	// Waiting is interrupted without a cancel request, which would arrive too late and cancel
	// the next statement.
	c.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()}
	}
	return pgx.ConnectConfig(ctx, c.ConnConfig)
}

// checkWakeUp logs why no wake-up can arrive, if so. The relay itself reports a missing
// outbox.
func (r *Relay) checkWakeUp(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(r.stopping, roundTimeout)
	defer cancel()
	var woken bool
	var pid uint32
	err := conn.QueryRow(ctx, "select to_regclass('entity_sync_outbox') is null or "+wakesUp+", pg_backend_pid()").Scan(&woken, &pid)
	if err == nil && pid != conn.PgConn().PID() {
		r.log.Warn("outbox.Config.Listen goes through a pooler: one that pools by transaction passes nothing on",
			slog.String("remedy", "give outbox.Config a pool that leads past the pooler, or leave Listen out"), slog.Duration("announced_every", r.config.Interval))
	}
	if err == nil && !woken {
		r.log.Warn("outbox.Config.Listen has no effect: no trigger wakes the relay",
			slog.String("remedy", "run outbox.EnableWakeUp as the owner of the outbox"), slog.Duration("announced_every", r.config.Interval))
	}
	return err
}

func (r *Relay) ask(conn *pgx.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(r.stopping, roundTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	return err
}
