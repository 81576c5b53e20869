package db

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/db/internal/sqlstate"
	"github.com/entity-sync/entity-sync/shared"
)

// Query fetches the rows of an entity type's keys from PostgreSQL. Rows, RowsOf, Batch and
// BatchOf make a Query, and es.RegisterQuery registers it. It may be used from any goroutine.
//
// Its rows are JSON objects as PostgreSQL makes them: with the columns' names, in their order,
// and with NULL as null. A key without a row is not found. So is a key whose id cannot be one,
// such as "x" where ids are numbers, and a key whose id is spelled otherwise than it is
// announced (see outbox.Track), such as "007".
type Query struct {
	definition

	mu   sync.Mutex
	plan []statement // the checked sources; nil until they were checked
}

// definition is how a Query was made.
type definition struct {
	pool     *pgxpool.Pool
	sources  []string // the statements that the application gave
	typed    func(pgx.CollectableRow) ([]byte, error)
	batch    bool
	asViewer bool
	claims   Claims // of AsViewer
	asRole   bool   // WithoutViewer
	maxBytes int
}

// statement is a checked statement.
type statement struct {
	sql     string
	id      idType
	plain   bool   // see idType.isPlain
	spelled string // a statement for the spelling of the id; empty if plain
	loose   bool   // a batch may return rows whose ids are spelled otherwise than those it was asked for
}

// rollbackTimeout bounds the rollback after a fetch that failed, which keeps the connection
// usable. If it takes longer, the connection is closed.
const rollbackTimeout = time.Second

// defaultMaxBytes is the default of es.WithMaxBytes.
const defaultMaxBytes = 1 << 20

// Rows returns a Query that runs the statements with one key's id as $1. It returns the rows
// of the first statement, then those of the next:
//
//	db.Rows(pool, `select id, title from reports where id = $1`,
//		`select a.name from authors a join reports r on r.author = a.id where r.id = $1`)
//
// Several statements see one snapshot of the database.
func Rows(pool *pgxpool.Pool, statements ...string) *Query {
	return &Query{definition: definition{pool: pool, sources: statements, maxBytes: defaultMaxBytes}}
}

// RowsOf is Rows for one statement whose rows become values of the struct T first, as
// pgx.RowToStructByName makes them, and then JSON, as encoding/json makes it. It is for JSON
// that differs from the columns in names, fields or forms.
func RowsOf[T any](pool *pgxpool.Pool, statement string) *Query {
	q := Rows(pool, statement)
	q.typed = encodeAs[T]
	return q
}

func encodeAs[T any](row pgx.CollectableRow) ([]byte, error) {
	v, err := pgx.RowToStructByName[T](row)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// Batch returns a Query that fetches all changed keys with one statement. The statement gets
// their ids as an array, $1, and its first column is the id that a row belongs to:
//
//	db.Batch(pool, `select id, name, price from items where id = any($1)`)
func Batch(pool *pgxpool.Pool, statement string) *Query {
	q := Rows(pool, statement)
	q.batch = true
	return q
}

// BatchOf is to Batch what RowsOf is to Rows. The id is a column like the others: T
// has a field for it.
func BatchOf[T any](pool *pgxpool.Pool, statement string) *Query {
	q := Batch(pool, statement)
	q.typed = encodeAs[T]
	return q
}

// MaxBytes returns a Query that fails for a key whose rows take more than n bytes together.
// The default is 1 MiB; es.RegisterQuery sets it to that of es.WithMaxBytes.
func (q *Query) MaxBytes(n int) *Query {
	d := q.definition
	d.maxBytes = n
	return &Query{definition: d}
}

// Pool returns the pool that the Query reads from.
func (q *Query) Pool() *pgxpool.Pool { return q.pool }

// viewersAtOnce bounds how many viewers one batch of AsViewer has: each viewer may take a
// transaction, one after another, within the time of one fetch.
const viewersAtOnce = 100

// BatchSize returns how many requests FetchBatch should get at once: one, unless the Query was
// made by Batch or BatchOf; 100 if each may be for another viewer; and zero for no bound.
func (q *Query) BatchSize() int {
	switch {
	case !q.batch:
		return 1
	case q.asViewer:
		return viewersAtOnce
	default:
		return 0
	}
}

// Fetch reads the rows of one key. It is a shared.Fetcher.
func (q *Query) Fetch(ctx context.Context, key shared.EntityKey, secret string) ([][]byte, error) {
	r := q.FetchBatch(ctx, []shared.FetchRequest{{Key: key, Secret: shared.NewSecret(secret)}})[0]
	return r.Rows, r.Err
}

// FetchBatch answers the requests. A Query that fetches batches answers all requests of one
// viewer with one statement. It is a shared.BatchFetcher.
func (q *Query) FetchBatch(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
	results := make([]shared.FetchResult, len(requests))
	plan, err := q.checked(ctx)
	if err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	f := fetch{query: q, plan: plan, requests: requests, results: results}
	for _, v := range f.viewers(ctx) {
		f.read(ctx, v)
	}
	return results
}

// fetch is one call of FetchBatch.
type fetch struct {
	query    *Query
	plan     []statement
	requests []shared.FetchRequest
	results  []shared.FetchResult
}

// viewer is a viewer with its requests.
type viewer struct {
	settings []setting
	requests []int // their indexes
}

func (f *fetch) read(ctx context.Context, v viewer) {
	if f.query.batch {
		f.readBatch(ctx, v)
		return
	}
	for _, i := range v.requests {
		rows, err := f.readOne(ctx, v.settings, f.requests[i].Key.ID)
		f.results[i] = shared.FetchResult{Rows: rows, Err: f.query.outcome(rows, err)}
	}
}

// readOne runs every statement for one id.
func (f *fetch) readOne(ctx context.Context, settings []setting, id string) ([][]byte, error) {
	args := make([]string, len(f.plan))
	for i, s := range f.plan {
		if !s.id.mayBe(id) {
			return nil, nil
		}
		args[i] = id
		if f.query.batch {
			args[i] = arrayLiteral([]string{id})
		}
	}
	var rows [][]byte
	size := 0
	spelled := true
	told := func(row pgx.Rows) error {
		spelled = spelled && string(row.RawValues()[0]) == id
		return nil
	}
	err := f.query.run(ctx, settings, f.plan, args, told, func(row pgx.Rows) error {
		b, err := f.query.encode(row)
		if err != nil {
			return err
		}
		if size += len(b); size > f.query.maxBytes {
			return fmt.Errorf("the rows come to more than %d bytes", f.query.maxBytes)
		}
		rows = append(rows, b)
		return nil
	})
	if sqlstate.MayBeOfID(err) {
		for i, s := range f.plan {
			if takes, probed := f.query.takes(ctx, s, args[i]); probed != nil || !takes {
				return nil, probed
			}
		}
	}
	if !spelled {
		return nil, err
	}
	return rows, err
}

func (q *Query) encode(row pgx.Rows) ([]byte, error) {
	if q.batch {
		row = withoutID{row}
	}
	if q.typed != nil {
		return q.typed(row)
	}
	return bytes.Clone(row.RawValues()[0]), nil // JSON, as text
}

// outcome returns what rows and an error mean to the engine.
func (q *Query) outcome(rows [][]byte, err error) error {
	if err == nil && len(rows) == 0 {
		return shared.ErrNotFound
	}
	return err
}

// run runs the statements, each with its argument, and calls each for every row. For each
// statement that is not plain it then calls spelled with PostgreSQL's spelling of the
// argument. Even a transaction takes one round trip to the server.
func (q *Query) run(ctx context.Context, settings []setting, statements []statement, args []string, spelled, each func(pgx.Rows) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := func(row pgx.Rows) error {
		err := each(row)
		if err != nil {
			cancel() // rather than read the rest of the rows, which may be many
		}
		return err
	}
	conn, err := q.pool.Acquire(ctx)
	if err != nil {
		return sqlstate.WithPoolRemedy(err)
	}
	defer conn.Release()
	if len(statements) == 1 && statements[0].plain && !q.asViewer {
		rows, err := conn.Query(ctx, statements[0].sql, args[0])
		if err == nil {
			err = forEach(rows, stop)
		}
		sqlstate.LeaveReadOnly(ctx, conn.Conn(), err)
		return q.failed(err)
	}
	err = transact(ctx, conn.Conn(), settings, statements, args, spelled, stop)
	sqlstate.LeaveReadOnly(ctx, conn.Conn(), err)
	endTransaction(ctx, conn.Conn())
	return q.failed(err)
}

// endTransaction rolls back a transaction that failed, if there is one. If that fails too, the
// pool closes the connection.
func endTransaction(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, _ = conn.Exec(ctx, "rollback")
}

func transact(ctx context.Context, conn *pgx.Conn, settings []setting, statements []statement, args []string, spelled, each func(pgx.Rows) error) (err error) {
	var batch pgx.Batch
	batch.Queue(beginSQL(len(statements)))
	for _, s := range settings {
		batch.Queue(setSQL, s.name, s.value)
	}
	for i, s := range statements {
		batch.Queue(s.sql, args[i])
	}
	calls := slices.Repeat([]func(pgx.Rows) error{each}, len(statements))
	for i, s := range statements { // last, because they change how all values are written
		if !s.plain {
			batch.Queue(s.spelled, args[i])
			calls = append(calls, spelled)
		}
	}
	batch.Queue("commit")
	results := conn.SendBatch(ctx, &batch)
	defer func() {
		if closed := results.Close(); err == nil {
			err = closed
		}
	}()
	for range 1 + len(settings) {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	for _, call := range calls {
		rows, err := results.Query()
		if err == nil {
			err = forEach(rows, call)
		}
		if err != nil {
			return err
		}
	}
	_, err = results.Exec()
	return err
}

// beginSQL begins a transaction in which n statements see one snapshot.
func beginSQL(n int) string {
	if n == 1 {
		return "begin read only"
	}
	return "begin isolation level repeatable read read only"
}

func forEach(rows pgx.Rows, each func(pgx.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// failed takes an error of the database. If the error may come from a changed schema, it makes
// the next fetch check the statements again.
func (q *Query) failed(err error) error {
	if sqlstate.IsSyntaxOrAccess(err) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.plan = nil
	}
	return sqlstate.WithPoolRemedy(err)
}
