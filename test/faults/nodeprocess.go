package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// nodeConfig is what a node is told. Zero means Entity Sync's own defaults.
type nodeConfig struct {
	Name     string // also of its connections to the database
	Addr     string
	NSQ      string
	Database string
	Pool     int // connections for each entity type, and as many for writing

	PingInterval, PongWait, WriteTimeout time.Duration
	FetchTimeout                         time.Duration
	CloseTimeout                         time.Duration // zero means closeTimeout

	Verify bool          // secrets are checked, and needed
	Life   time.Duration // of the secret of a user whose name begins with "mortal"
}

// closeTimeout is what a node gives itself to end, as the README's program does.
const closeTimeout = 10 * time.Second

// nodeRole is that of a process which is a node.
const nodeRole = "faults-node"

func beNode(c nodeConfig) error {
	p, err := newApplication(c)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: p.routes(), ReadHeaderTimeout: 5 * time.Second}

	terminate := process.Terminated()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Println(listener.Addr())

	select {
	case err := <-served:
		return err
	case <-terminate:
	}
	timeout := closeTimeout
	if c.CloseTimeout > 0 {
		timeout = c.CloseTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := errors.Join(p.sync.Close(ctx), server.Shutdown(ctx)); err != nil {
		slog.Warn("closing", slog.Any("error", err))
	}
	return nil
}

// application is Entity Sync, and an application around it.
type application struct {
	config nodeConfig
	sync   *es.EntitySync
	pools  map[shared.EntityType]*pgxpool.Pool // to fetch with: a locked table holds up its own type alone
	writes *pgxpool.Pool
	doctor doctor
	guard  guard

	mu       sync.Mutex
	fetching map[shared.FetchRequest]bool
	overlaps atomic.Int64 // fetches of a view begun while another one of it was under way
}

func newApplication(c nodeConfig) (*application, error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	slog.SetDefault(logger)
	p := &application{config: c, pools: make(map[shared.EntityType]*pgxpool.Pool), fetching: make(map[shared.FetchRequest]bool)}
	var err error
	if p.writes, err = p.pool(); err != nil {
		return nil, err
	}
	for _, entity := range entityTypes {
		if p.pools[entity], err = p.pool(); err != nil {
			return nil, err
		}
	}
	config := es.Config{
		NSQAddr: c.NSQ, Logger: logger,
		Web: web.Config{PingInterval: c.PingInterval, PongWait: c.PongWait, WriteTimeout: c.WriteTimeout},
	}
	if c.Verify {
		p.guard.life = c.Life
		config.VerifySecret, config.Web.RequireSecret = p.guard.verify, true
	}
	p.sync, err = es.New(config)
	if err != nil {
		return nil, err
	}
	timeout := es.WithTimeout(c.FetchTimeout)
	return p, errors.Join(
		es.Register(p.sync, items, p.fetchItem, timeout),
		es.RegisterBatch(p.sync, batch, p.fetchBatch, timeout),
		es.Register(p.sync, sick, p.fetchSick, timeout),
		es.Register(p.sync, ordered, p.fetchOrdered, timeout, es.WithRevision(func(r row) int64 { return r.Rev })),
	)
}

func (p *application) pool() (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(p.config.Database)
	if err != nil {
		return nil, err
	}
	c.MaxConns = int32(p.config.Pool)
	c.ConnConfig.RuntimeParams["application_name"] = p.config.Name
	// A fetch that is given up must not cost its connection: while a table is
	// locked the server would keep each lost one open, and a new one be made.
	c.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 2 * time.Second}
	}
	return pgxpool.NewWithConfig(context.Background(), c)
}

func (p *application) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws/entity-sync/", p.sync)
	mux.HandleFunc("POST /write", answer(p.write))
	mux.HandleFunc("POST /storm", answer(p.storm))
	mux.HandleFunc("POST /sick", answer(p.doctor.prescribe))
	mux.HandleFunc("POST /ready", answer(func(context.Context, struct{}) (bool, error) { return p.sync.Ready(), nil }))
	mux.HandleFunc("POST /order", answer(p.order))
	mux.HandleFunc("POST /withdraw", answer(p.guard.withdraw))
	mux.HandleFunc("POST /stats", answer(p.stats))
	mux.HandleFunc("POST /stacks", answer(stacks))
	return mux
}

// answer makes an HTTP handler of a function from a JSON object to another.
func answer[Q, A any](f func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a, err := f(r.Context(), q)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(a); err != nil {
			slog.Warn("answering", slog.Any("error", err))
		}
	}
}

// nodeStats are a node's figures.
type nodeStats struct {
	bridge.Stats
	Ready      bool
	Goroutines int
	Heap       uint64 // bytes, after a garbage collection
	Files      int    // open, but for those of connections to the database
	Overlaps   int64
}

func (p *application) stats(context.Context, struct{}) (nodeStats, error) {
	// Twice: what a sync.Pool holds survives the first.
	runtime.GC()
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	files, err := os.ReadDir("/proc/self/fd")
	n := len(files)
	for _, pool := range p.pools {
		n -= int(pool.Stat().TotalConns())
	}
	n -= int(p.writes.Stat().TotalConns())
	return nodeStats{
		Stats: p.sync.Bridge.Stats(), Ready: p.sync.Bridge.Ready(),
		Goroutines: runtime.NumGoroutine(), Heap: memory.HeapAlloc, Files: n, Overlaps: p.overlaps.Load(),
	}, err
}

// stacks returns what all goroutines do, for when there are too many.
func stacks(context.Context, struct{}) (string, error) {
	var all strings.Builder
	err := pprof.Lookup("goroutine").WriteTo(&all, 1)
	return all.String(), err
}

// begin notes a fetch, and that no other one of the same view may be under way.
func (p *application) begin(requests ...shared.FetchRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range requests {
		if p.fetching[r] {
			p.overlaps.Add(1)
		}
		p.fetching[r] = true
	}
}

func (p *application) end(requests ...shared.FetchRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range requests {
		delete(p.fetching, r)
	}
}

func (p *application) fetchItem(ctx context.Context, key shared.EntityKey, secret string) (row, error) {
	request := shared.FetchRequest{Key: key, Secret: shared.NewSecret(secret)}
	p.begin(request)
	defer p.end(request)
	return p.read(ctx, key, secret)
}

func (p *application) read(ctx context.Context, key shared.EntityKey, secret string) (row, error) {
	if p.guard.refuses(identityOf(secret)) {
		return row{}, shared.ErrForbidden
	}
	rows, err := p.readAll(ctx, key.Entity, []string{key.ID})
	if err != nil {
		return row{}, err
	}
	r, ok := rows[key.ID]
	if !ok {
		return row{}, shared.ErrNotFound
	}
	return r.seenBy(identityOf(secret))
}

// readAll reads several rows with one query. Those whose id ends in "-wide" are
// long ones.
func (p *application) readAll(ctx context.Context, entity shared.EntityType, ids []string) (map[string]row, error) {
	sql := fmt.Sprintf("select id, owner, nonce, rev from %s where id = any($1)", entity)
	rs, err := p.pools[entity].Query(ctx, sql, ids)
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	rows := make(map[string]row, len(ids))
	for rs.Next() {
		r := row{Entity: entity}
		if err := rs.Scan(&r.ID, &r.Owner, &r.Nonce, &r.Rev); err != nil {
			return nil, err
		}
		if strings.HasSuffix(r.ID, "-wide") {
			r.Pad = strings.Repeat("x", wide)
		}
		rows[r.ID] = r
	}
	return rows, rs.Err()
}

// wide is the size of a long row: a few fill what the kernel holds for a client.
const wide = 32 << 10

func (p *application) fetchBatch(ctx context.Context, requests []shared.FetchRequest) []shared.FetchResult {
	p.begin(requests...)
	defer p.end(requests...)
	ids := make([]string, len(requests))
	for i, r := range requests {
		ids[i] = r.Key.ID
	}
	rows, err := p.readAll(ctx, batch, ids)
	results := make([]shared.FetchResult, len(requests))
	for i, r := range requests {
		there, ok := rows[r.Key.ID]
		switch {
		case err != nil:
			results[i].Err = err
		case p.guard.refuses(identityOf(r.Secret.Reveal())):
			results[i].Err = shared.ErrForbidden
		case !ok:
			results[i].Err = shared.ErrNotFound
		default:
			results[i] = encode(there.seenBy(identityOf(r.Secret.Reveal())))
		}
	}
	return results
}

func encode(r row, err error) shared.FetchResult {
	if err != nil {
		return shared.FetchResult{Err: err}
	}
	b, err := json.Marshal(r)
	return shared.FetchResult{Rows: [][]byte{b}, Err: err}
}
