package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

//go:embed postgres.sql
var postgresSQL string

const (
	// postgresSchema has all that the board makes in a database, its outbox too. Nothing else
	// is in it.
	postgresSchema = "entity_sync_board"

	// postgresRole is the role of the nodes, whatever the role in DATABASE_URL is: policies do
	// not apply to a superuser, nor to the owner of the tables.
	postgresRole = "board_app"
)

// postgres is a Store whose database does the work: policies decide who sees what, and
// triggers write the keys to announce to the outbox, whichever program writes.
type postgres struct {
	tables
	pool *pgxpool.Pool
}

func openPostgres(ctx context.Context, url string) (*postgres, error) {
	config, err := db.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["search_path"] = postgresSchema
	if err := migrate(ctx, config.ConnConfig); err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["role"] = postgresRole
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	p := &postgres{tables{stdlib.OpenDBFromPool(pool), `SELECT set_config('board.role', $1, true)`}, pool}
	if err := pool.Ping(ctx); err != nil {
		return nil, errors.Join(roleError(config.ConnConfig, err), p.Close())
	}
	if err := p.fill(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close must be called after the node that fetches from the Store was closed.
func (p *postgres) Close() error {
	err := p.db.Close()
	p.pool.Close()
	return err
}

// migrate makes what is missing, as the role in DATABASE_URL: all of it, or nothing.
func migrate(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("the database cannot be reached: %w", err)
	}
	defer conn.Close(ctx)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// If several programs start at once, one makes it and the others find it.
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext($1))`, postgresSchema); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, roleSQL); err != nil {
			return roleError(config, err)
		}
		if _, err := tx.Exec(ctx, `create schema if not exists `+postgresSchema); err != nil {
			return fmt.Errorf("making the schema: %w", err)
		}
		if err := outbox.EnsureSchema(ctx, tx); err != nil {
			return err
		}
		var made bool
		if err := tx.QueryRow(ctx, `select to_regclass('items') is not null`).Scan(&made); err != nil {
			return err
		}
		if !made {
			if _, err := tx.Exec(ctx, tablesSQL+postgresSQL); err != nil {
				return fmt.Errorf("making the tables: %w", err)
			}
		} else if _, err := tx.Exec(ctx, upgradeSQL); err != nil {
			return fmt.Errorf("bringing the tables up to date: %w", err)
		}
		return track(ctx, tx)
	})
}

// upgradeSQL adds what the tables of an earlier version of the board lack.
const upgradeSQL = `
	alter table items
		add column if not exists private boolean not null default false,
		add column if not exists revision bigint not null default 1`

// track has every write announced, whichever program makes it: as a change of the item, under
// the kind as which the item is watched, and as a change of its list.
func track(ctx context.Context, tx pgx.Tx) error {
	return errors.Join(
		outbox.Track(ctx, tx, "items", itemEntity, "id"),
		outbox.Track(ctx, tx, "items", privateEntity, "id"),
		outbox.Track(ctx, tx, "costs", itemEntity, "item"),
		outbox.Track(ctx, tx, "costs", privateEntity, "item"),
		outbox.Track(ctx, tx, "items", boardEntity, "list"),
	)
}

// roleSQL makes the role, which all databases of a server share, and lets the role that makes
// it switch to it.
const roleSQL = `
	do $$ begin
		if to_regrole('` + postgresRole + `') is null then
			create role ` + postgresRole + ` nologin;
			grant ` + postgresRole + ` to current_user;
		end if;
	exception when duplicate_object or unique_violation then null; -- another was quicker
	end $$`

// roleError says what to do about the role.
func roleError(config *pgx.ConnConfig, err error) error {
	return fmt.Errorf("the nodes cannot work as the role %[1]s, for which policies hold: %[2]w; a superuser can mend it: CREATE ROLE %[1]s NOLOGIN; GRANT %[1]s TO %[3]s",
		postgresRole, err, pgx.Identifier{config.User}.Sanitize())
}

func (p *postgres) Outbox() *outbox.Config { return &outbox.Config{Pool: p.pool} }

func (p *postgres) Register(ctx context.Context, node *es.EntitySync) error {
	items := db.BatchOf[itemRow](p.pool, itemSQL+` WHERE i.id = any($1) AND NOT i.private`).AsViewer(claims(itemEntity))
	private := db.BatchOf[itemRow](p.pool, itemSQL+` WHERE i.id = any($1) AND i.private`).AsViewer(claims(privateEntity))
	members := db.RowsOf[memberRow](p.pool, membersSQL).AsViewer(claims(boardEntity))
	return errors.Join(
		es.RegisterQuery(ctx, node, itemEntity, items, byRole),
		es.RegisterQuery(ctx, node, privateEntity, private, byRole),
		// A change of an item is announced as one of its list, which is mostly unchanged.
		es.RegisterQuery(ctx, node, boardEntity, members, byRole, es.WithOnlyDifferences()),
	)
}

// claims returns who the holder of a secret is, for the policies to decide. It refuses people
// who may see no things of that kind at all.
func claims(kind shared.EntityType) db.Claims {
	return func(_ context.Context, secret string) (map[string]string, error) {
		role := RoleOf(secret)
		if !role.MaySee(kind) {
			return nil, shared.ErrForbidden
		}
		return map[string]string{"board.role": string(role)}, nil
	}
}
