package badinput

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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
	"github.com/entity-sync/entity-sync/shared"
)

// nodeConfig is what a node is told. Zero means Entity Sync's own defaults.
type nodeConfig struct {
	NSQ string

	AllowedOrigins []string
	Authenticate   bool // at the upgrade nobody is let in
	SecretTimeout  time.Duration
	PongWait       time.Duration
	VerifySecret   bool          // a secret is needed, and goodSecret is the only one
	IdleTimeout    time.Duration // of the http.Server, in place of the README's minute
}

const items shared.EntityType = "items"

const goodSecret = "good"

// nodeRole is that of a process which is a node.
const nodeRole = "badinput-node"

func beNode(c nodeConfig) error {
	p, err := newApplication(c)
	if err != nil {
		return err
	}
	// Clients and tests have a listener each: what is asked of the node by a test
	// does not wait behind what is done to it.
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	private, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: p.public(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	if c.IdleTimeout > 0 {
		server.IdleTimeout = c.IdleTimeout
	}
	control := &http.Server{Handler: p.private(), ReadHeaderTimeout: 5 * time.Second}

	terminate := process.Terminated()
	served := make(chan error, 2)
	go func() { served <- server.Serve(public) }()
	go func() { served <- control.Serve(private) }()
	fmt.Println(public.Addr(), private.Addr())

	select {
	case err := <-served:
		return err
	case <-terminate:
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return errors.Join(p.sync.Close(ctx), server.Shutdown(ctx), control.Close())
}

// application is Entity Sync, and an application around it.
type application struct {
	sync     *es.EntitySync
	fetches  atomic.Int64 // for anybody but bystanders
	verified atomic.Int64 // secrets that were looked at

	mu        sync.Mutex
	revisions map[string]int // by id
}

// bystanderPrefix begins the secrets of the bystanders.
const bystanderPrefix = "bystander "

func newApplication(c nodeConfig) (*application, error) {
	// Everything is logged, so that what must not be is found.
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	slog.SetDefault(logger)
	p := &application{revisions: make(map[string]int)}
	config := es.Config{NSQAddr: c.NSQ, Logger: logger, AllowedOrigins: c.AllowedOrigins}
	// On a busy machine nsqd and the node may do nothing for seconds: what is asked is how
	// long the bystanders wait, and not that the bus keeps to its time.
	config.Bridge.PublishTimeout, config.NSQ.Heartbeat = patience, patience/4
	config.Web.PongWait = c.PongWait
	if c.VerifySecret {
		config.VerifySecret = p.verify
		config.Web.RequireSecret, config.Web.SecretTimeout = true, c.SecretTimeout
	}
	if c.Authenticate {
		config.Authenticate, config.VerifySecret = p.authenticate, p.verify
	}
	var err error
	if p.sync, err = es.New(config); err != nil {
		return nil, err
	}
	return p, errors.Join(
		es.Register(p.sync, items, p.fetch),
		es.RegisterChannel(p.sync, "news", es.Public(), es.ClientsPublish()),
		es.RegisterChannel(p.sync, "closed"),
	)
}

// row is what there is of a key.
type row struct {
	ID  string `json:"id"`
	Rev int    `json:"rev"`
	For string `json:"for"` // the secret that it was fetched with
}

func (p *application) fetch(_ context.Context, key shared.EntityKey, secret string) (row, error) {
	if !strings.HasPrefix(secret, bystanderPrefix) {
		p.fetches.Add(1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return row{key.ID, p.revisions[key.ID], secret}, nil
}

func (p *application) verify(_ context.Context, secret string) (expires time.Time, err error) {
	p.verified.Add(1)
	if secret != goodSecret && !strings.HasPrefix(secret, bystanderPrefix) {
		return expires, fmt.Errorf("%q is nobody's: %w", secret, shared.ErrUnauthenticated)
	}
	return expires, nil
}

func (p *application) authenticate(r *http.Request) (secret string, expires time.Time, err error) {
	p.verified.Add(1)
	secret = r.Header.Get("Authorization")
	if !strings.HasPrefix(secret, bystanderPrefix) {
		return "", expires, fmt.Errorf("%q is nobody's: %w", secret, shared.ErrUnauthenticated)
	}
	return secret, expires, nil
}

func (p *application) public() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(path, p.sync)
	return mux
}

const path = "/ws/entity-sync/"

func (p *application) private() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/write", answer(p.write))
	mux.HandleFunc("/measure", answer(p.measure))
	mux.HandleFunc("/yardstick", answer(takeYardstick))
	mux.HandleFunc("/register", answer(p.register))
	return mux
}

// answer makes an HTTP handler of a function from a JSON value to another.
func answer[Q, A any](f func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		err := json.NewDecoder(r.Body).Decode(&q)
		var a A
		if err == nil {
			a, err = f(r.Context(), q)
		}
		if err == nil {
			err = json.NewEncoder(w).Encode(a)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}

// write changes a row and announces it.
func (p *application) write(ctx context.Context, r row) (struct{}, error) {
	p.mu.Lock()
	p.revisions[r.ID] = r.Rev
	p.mu.Unlock()
	return struct{}{}, p.sync.Notify(ctx, shared.EntityKey{Entity: items, ID: r.ID})
}

// register tries a name for an entity type, and returns why it cannot be one.
func (p *application) register(_ context.Context, name shared.EntityType) (why string, err error) {
	err = es.Register(p.sync, name, p.fetch)
	if !errors.Is(err, shared.ErrBadEntity) {
		return "", fmt.Errorf("it returned %w, not ErrBadEntity", err)
	}
	return err.Error(), nil
}

// figures are what a node has used and done.
type figures struct {
	bridge.Stats
	Ready      bool
	CPU        time.Duration
	Memory     int // bytes of the heap and the stacks, after a garbage collection
	Goroutines int
	Files      int   // open
	Foreign    int64 // fetches for anybody but bystanders
	Verified   int64
}

// measure collects garbage first where it is asked to: that takes time.
func (p *application) measure(_ context.Context, collect bool) (f figures, err error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return f, err
	}
	f.CPU = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	if collect {
		runtime.GC() // twice: what a sync.Pool holds survives the first
		runtime.GC()
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	f.Memory = int(memory.HeapAlloc + memory.StackInuse)
	files, err := os.ReadDir("/proc/self/fd")
	f.Stats, f.Ready = p.sync.Bridge.Stats(), p.sync.Ready()
	f.Goroutines, f.Files = runtime.NumGoroutine(), len(files)
	f.Foreign, f.Verified = p.fetches.Load(), p.verified.Load()
	return f, err
}
