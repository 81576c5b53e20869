package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// sqlite is a Store that knows nothing of who looks or who listens: the fetch
// handlers leave out what a person may not see, and who writes announces.
type sqlite struct{ tables }

func openSQLite(ctx context.Context, dir string) (*sqlite, error) {
	file := url.URL{
		Scheme: "file", OmitHost: true, Path: filepath.ToSlash(filepath.Join(dir, "board.sqlite")),
		// WAL lets readers go on while somebody writes. Writers take their lock
		// at once and wait for each other, rather than fail half way through.
		RawQuery: "_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_txlock=immediate",
	}
	handle, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, err
	}
	handle.SetMaxOpenConns(8)
	s := &sqlite{tables{db: handle}}
	if err := s.prepare(ctx); err != nil {
		handle.Close()
		return nil, err
	}
	return s, nil
}

func (s *sqlite) prepare(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, tablesSQL); err != nil {
		return fmt.Errorf("making the tables: %w", err)
	}
	return s.fill(ctx)
}

func (s *sqlite) Close() error { return s.db.Close() }

func (s *sqlite) Outbox() *db.Outbox { return nil }

func (s *sqlite) Register(_ context.Context, node *es.EntitySync) error {
	return errors.Join(
		es.Register(node, itemEntity, s.fetchItem, byRole),
		es.Register(node, boardEntity, s.fetchBoard, byRole),
	)
}

func (s *sqlite) fetchItem(ctx context.Context, key shared.EntityKey, secret string) (row itemRow, err error) {
	role := RoleOf(secret)
	if role == Nobody {
		return row, shared.ErrForbidden
	}
	err = s.db.QueryRowContext(ctx, itemSQL+` AND $2 = 'manager' WHERE i.id = $1`, key.ID, string(role)).Scan(
		&row.ID, &row.Type, &row.Name, &row.Quantity, &row.PriceCents, &row.WrittenAt, &row.WrittenOn, &row.CostCents, &row.MarginPercent)
	if errors.Is(err, sql.ErrNoRows) {
		return row, shared.ErrNotFound // it was deleted
	}
	if err != nil {
		return row, fmt.Errorf("reading an item: %w", err)
	}
	return row, nil
}

func (s *sqlite) fetchBoard(ctx context.Context, key shared.EntityKey, secret string) (row boardRow, err error) {
	if RoleOf(secret) == Nobody {
		return row, shared.ErrForbidden
	}
	// The stamp is read first: a list that is newer than its stamp is announced
	// again anyway, the other way round a change would seem to have arrived.
	row = boardRow{Type: "board", ID: key.ID}
	err = s.db.QueryRowContext(ctx, `SELECT written_at / 1000.0, written_on FROM lists WHERE id = $1`, key.ID).Scan(&row.WrittenAt, &row.WrittenOn)
	if errors.Is(err, sql.ErrNoRows) {
		return row, shared.ErrNotFound
	}
	if err == nil {
		row.Items, err = s.listed(ctx, key.ID)
	}
	if err != nil {
		return row, fmt.Errorf("listing the items: %w", err)
	}
	return row, nil
}

// listed returns the ids of a list's items, oldest first.
func (s *sqlite) listed(ctx context.Context, list string) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id FROM items WHERE list = $1 ORDER BY created_at, id`, list)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := []string{} // [] on the wire, not null
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
