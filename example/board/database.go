package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// connectTimeout bounds how long a start waits for the database.
const connectTimeout = 5 * time.Second

// OpenStore opens the PostgreSQL database at databaseURL, or with an empty one
// an SQLite file in dir, and makes the tables if they are not there.
func OpenStore(ctx context.Context, databaseURL, dir string) (*Store, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	db, err := openDatabase(databaseURL, dir)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	store := &Store{db: db}
	if err := store.prepare(ctx); err != nil {
		db.Close()
		if databaseURL != "" {
			err = fmt.Errorf("DATABASE_URL: %w", err)
		}
		return nil, err
	}
	return store, nil
}

func openDatabase(databaseURL, dir string) (*sql.DB, error) {
	if databaseURL != "" {
		db, err := sql.Open("pgx", databaseURL)
		if err != nil {
			return nil, fmt.Errorf("DATABASE_URL: %w", err)
		}
		return db, nil
	}
	file := url.URL{
		Scheme: "file", OmitHost: true, Path: filepath.ToSlash(filepath.Join(dir, "board.sqlite")),
		// WAL lets readers go on while somebody writes. Writers take their lock
		// at once and wait for each other, rather than fail half way through.
		RawQuery: "_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_txlock=immediate",
	}
	return sql.Open("sqlite", file.String())
}

const schema = `
	CREATE TABLE IF NOT EXISTS board_items (
		id          TEXT PRIMARY KEY,
		name        TEXT NOT NULL,
		quantity    BIGINT NOT NULL,
		price_cents BIGINT NOT NULL,
		cost_cents  BIGINT NOT NULL,
		created_at  BIGINT NOT NULL,
		written_at  BIGINT NOT NULL,
		written_on  TEXT NOT NULL
	);
	CREATE TABLE IF NOT EXISTS board_list (
		id          INTEGER PRIMARY KEY,
		written_at  BIGINT NOT NULL,
		written_on  TEXT NOT NULL
	);`

// samples are on the board when its tables were just made.
var samples = []NewItem{
	{"Espresso beans", 42, 18_90, 11_20},
	{"Oat milk", 120, 2_29, 1_45},
	{"Filter papers", 64, 4_50, 1_90},
	{"Ceramic cup", 17, 9_80, 4_10},
	{"Hand grinder", 4, 74_00, 48_50},
	{"Milk jug", 0, 24_50, 13_00},
}

// prepare makes the tables and puts the samples on a board that is new.
func (s *Store) prepare(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return fmt.Errorf("the database cannot be reached: %w", err)
	}
	if _, err := s.db.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("making the tables: %w", err)
	}
	result, err := s.db.ExecContext(ctx,
		`INSERT INTO board_list (id, written_at, written_on) VALUES (1, 0, '') ON CONFLICT DO NOTHING`)
	if err != nil {
		return fmt.Errorf("preparing the list: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err // a board that was used before, perhaps emptied
	}
	start := time.Now()
	for i, n := range samples {
		// A microsecond apart, which is what puts them in order.
		by := Stamp{At: start.Add(time.Duration(i) * time.Microsecond), Node: "the start"}
		if _, err := s.Add(ctx, n, by); err != nil {
			return err
		}
	}
	return nil
}
