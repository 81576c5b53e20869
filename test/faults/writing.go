package faults

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// What can be done to a row before it is announced.
const (
	update   = "update" // or create, where there is none
	remove   = "remove"
	give     = "give"     // to somebody who alone may see it from now on
	announce = "announce" // nothing: somebody else wrote
)

// writeRequest asks a node to write and to announce it.
type writeRequest struct {
	Do  string
	Key shared.EntityKey
	To  string // the user whom it is given to; empty for everybody
}

// written says what came of it. Error is Notify's; the write itself is committed.
type written struct {
	Nonce, Rev int64
	Error      string
	Notify     time.Duration // how long Notify took
}

func (p *application) write(ctx context.Context, q writeRequest) (w written, err error) {
	if q.Do != announce {
		if w, err = p.change(ctx, q); err != nil {
			return w, err
		}
	}
	begin := time.Now()
	if err := p.sync.Notify(ctx, q.Key); err != nil {
		w.Error = err.Error()
	}
	w.Notify = time.Since(begin)
	return w, nil
}

// change commits a change, and returns the row's state.
func (p *application) change(ctx context.Context, q writeRequest) (w written, err error) {
	tx, err := p.writes.Begin(ctx)
	if err != nil {
		return w, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // after a commit it does nothing
	// An insert takes the number of its life before it waits for others that write the row, and
	// would come after them with a lower one.
	if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtextextended($1, 0))", q.Key.Hash()); err != nil {
		return w, err
	}
	switch q.Do {
	case update:
		err = tx.QueryRow(ctx, fmt.Sprintf(`insert into %s as r (id, owner, nonce, rev) values ($1, '', nextval('lives'), 1)
			on conflict (id) do update set rev = r.rev + 1 returning nonce, rev`, q.Key.Entity), q.Key.ID).Scan(&w.Nonce, &w.Rev)
	case give:
		err = tx.QueryRow(ctx, fmt.Sprintf("update %s set owner = $2, rev = rev + 1 where id = $1 returning nonce, rev", q.Key.Entity),
			q.Key.ID, q.To).Scan(&w.Nonce, &w.Rev)
	case remove:
		_, err = tx.Exec(ctx, fmt.Sprintf("delete from %s where id = $1", q.Key.Entity), q.Key.ID)
	default:
		err = fmt.Errorf("cannot %q", q.Do)
	}
	if err != nil {
		return w, err
	}
	return w, tx.Commit(ctx)
}

// stormRequest asks for many announcements, some of them of writes.
type stormRequest struct {
	Entity  shared.EntityType
	Prefix  string // an id is this and a number below IDs
	IDs     int
	Calls   int // of Notify
	PerCall int // keys of each call
	Every   int // before every so many calls a row is written; 0 for none
	Workers int
}

// stormed says what came of it.
type stormed struct {
	Writes, Errors int64
	Took           time.Duration
}

func (p *application) storm(ctx context.Context, q stormRequest) (stormed, error) {
	var next, writes, errs atomic.Int64
	var workers sync.WaitGroup
	begin := time.Now()
	for range q.Workers {
		workers.Go(func() {
			for call := next.Add(1) - 1; call < int64(q.Calls); call = next.Add(1) - 1 {
				keys := make([]shared.EntityKey, q.PerCall)
				for i := range keys {
					n := (int(call)*q.PerCall + i) % q.IDs
					keys[i] = key(q.Entity, q.Prefix+strconv.Itoa(n))
				}
				if q.Every > 0 && call%int64(q.Every) == 0 {
					if _, err := p.change(ctx, writeRequest{Do: update, Key: keys[0]}); err != nil {
						errs.Add(1)
						continue
					}
					writes.Add(1)
				}
				if err := p.sync.Notify(ctx, keys...); err != nil {
					errs.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return stormed{writes.Load(), errs.Load(), time.Since(begin)}, nil
}
