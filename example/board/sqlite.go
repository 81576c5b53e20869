package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// sqlite is a Store whose database knows neither people nor clients: the fetch handlers leave
// out what a person may not see, and the node that writes announces.
type sqlite struct{ tables }

func openSQLite(ctx context.Context, dir string) (*sqlite, error) {
	file := url.URL{
		Scheme: "file", OmitHost: true, Path: filepath.ToSlash(filepath.Join(dir, "board.sqlite")),
		// WAL lets readers go on during a write. Writers take their lock at once and wait for
		// each other, rather than fail half way through.
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

func (s *sqlite) Outbox() *outbox.Config { return nil }

func (s *sqlite) Register(_ context.Context, node *es.EntitySync) error {
	return errors.Join(
		es.Register(node, itemEntity, s.fetchItem, byRole),
		es.Register(node, privateEntity, s.fetchItem, byRole),
		es.RegisterRows(node, boardEntity, s.fetchMembers, byRole),
	)
}

func (s *sqlite) fetchItem(ctx context.Context, key shared.EntityKey, secret string) (row itemRow, err error) {
	role := RoleOf(secret)
	if !role.MaySee(key.Entity) {
		return row, shared.ErrForbidden
	}
	query := itemSQL + ` AND $1 = 'manager' WHERE i.id = $2 AND i.private = $3`
	err = s.db.QueryRowContext(ctx, query, string(role), key.ID, key.Entity == privateEntity).Scan(
		&row.ID, &row.Name, &row.Quantity, &row.PriceCents, &row.Revision, &row.WrittenAt, &row.WrittenOn, &row.CostCents, &row.MarginPercent)
	if errors.Is(err, sql.ErrNoRows) {
		return row, shared.ErrNotFound // it was deleted
	}
	if err != nil {
		return row, fmt.Errorf("reading an item: %w", err)
	}
	return row, nil
}

func (s *sqlite) fetchMembers(ctx context.Context, key shared.EntityKey, secret string) ([]memberRow, error) {
	if !RoleOf(secret).MaySee(key.Entity) {
		return nil, shared.ErrForbidden
	}
	rows, err := s.db.QueryContext(ctx, membersSQL, key.ID)
	if err != nil {
		return nil, fmt.Errorf("listing the items: %w", err)
	}
	defer rows.Close()
	var members []memberRow
	for rows.Next() {
		var m memberRow
		if err := rows.Scan(&m.ID, &m.Private); err != nil {
			return nil, fmt.Errorf("listing the items: %w", err)
		}
		members = append(members, m)
	}
	return members, rows.Err()
}
