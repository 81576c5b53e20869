// Package scenario holds the pieces of work that are measured: S1 to S5, S8 and S9
// of bench/README.md.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/entity-sync/entity-sync/bench/load"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/process"
	"github.com/entity-sync/entity-sync/bench/server"
)

// The roles of this package's processes.
const (
	serverRole = "server under test"
	loadRole   = "load"
)

// Roles are what process.Main needs to know, beside those of package broker.
func Roles() map[string]process.Role {
	return map[string]process.Role{serverRole: server.Role, loadRole: load.Role}
}

// Suite is what all scenarios have in common.
type Suite struct {
	Profiles string // a folder for CPU profiles of the servers; empty for none
	Tiny     bool   // next to nothing of everything: to see that it works
}

// wires are what the clients of each subject speak.
var wires = map[server.Subject]load.Wire{
	server.Bare:       load.Silent,
	server.Gorilla:    load.Classic,
	server.Melody:     load.Classic,
	server.Centrifuge: load.CentrifugeWire,
	server.EntitySync: load.V2,
	server.Classic:    load.Classic,
	server.WithNSQ:    load.V2,
}

// stage is one subject at work, with its load.
type stage struct {
	suite  Suite
	ctx    context.Context
	config server.Config
	server *process.Process
	load   *process.Process
}

// announcers is how many changes are announced at once where each has to wait for
// others.
const announcers = 64

// onStage starts a server and its load, and lets f work with them.
func (s Suite) onStage(ctx context.Context, c server.Config, f func(*stage) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s, %d clients: %w", c.Subject, c.Layout.Clients, err)
		}
	}()
	serverCore, loadCore, err := process.Apart()
	if err != nil {
		return err
	}
	g := &stage{suite: s, ctx: ctx, config: c}
	var hello server.Hello
	if g.server, err = process.Start(ctx, serverRole, c, serverCore, &hello); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.server.Close()) }()
	toLoad := load.Config{Addr: hello.Addr, Changes: hello.Changes, Wire: wires[c.Subject], Layout: c.Layout, Secrets: c.Database != "", Spin: loadCore.Alone()}
	if g.load, err = process.Start(ctx, loadRole, toLoad, loadCore, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.load.Close()) }()
	return f(g)
}

// connect has all clients connect and subscribe, and returns how long that took.
func (g *stage) connect() (took time.Duration, err error) {
	if err := g.load.Ask(g.ctx, "connect", process.None{}, &took); err != nil {
		return 0, err
	}
	return took, g.untilWatched(g.config.Layout.Subscriptions())
}

// patience is how long a server may take to note what its clients did.
const patience = time.Minute

// untilWatched waits until the server knows of so many subscriptions.
func (g *stage) untilWatched(n int) error {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		st, err := g.stats()
		if err != nil || st.Watched == n {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the server has %d subscriptions, want %d", st.Watched, n)
		}
	}
}

func (g *stage) stats() (st server.Stats, err error) {
	err = g.server.Ask(g.ctx, "stats", process.None{}, &st)
	return st, err
}

func (g *stage) collect() (m process.Memory, err error) {
	err = g.server.Ask(g.ctx, "collect", process.None{}, &m)
	return m, err
}

func (g *stage) idle(d time.Duration) error { return g.load.Ask(g.ctx, "idle", d, nil) }

func (g *stage) fanOut(f load.FanOut) (d load.Deliveries, err error) {
	err = g.load.Ask(g.ctx, "fan out", f, &d)
	return d, err
}

func (g *stage) pace(p load.Pace) (d load.Deliveries, err error) {
	err = g.load.Ask(g.ctx, "pace", p, &d)
	return d, err
}

// used is what the server has used between two moments.
type used struct {
	CPU         time.Duration
	Fetches     int
	MostFetches int // at once, since its start
}

// using returns what the server uses while f runs, of which a profile is written if
// there is a folder for it. name tells this use from others of the same subject.
func (g *stage) using(name string, f func() error) (u used, err error) {
	if g.suite.Profiles != "" {
		if err := g.server.Ask(g.ctx, "profile", g.profileName(name), nil); err != nil {
			return u, err
		}
		defer func() { err = errors.Join(err, g.server.Ask(g.ctx, "profile", "", nil)) }()
	}
	before, err := g.stats()
	if err != nil {
		return u, err
	}
	if err := f(); err != nil {
		return u, err
	}
	after, err := g.stats()
	return used{after.CPU - before.CPU, after.Fetches - before.Fetches, after.MostFetches}, err
}

// profileName is a file that is not there yet: each run writes its own.
func (g *stage) profileName(name string) string {
	base := strings.NewReplacer(" ", "-", ",", "").Replace(fmt.Sprintf("%s %s %d", name, g.config.Subject, g.config.Layout.Clients))
	for n := 1; ; n++ {
		path := filepath.Join(g.suite.Profiles, base+"-"+strconv.Itoa(n)+".pprof")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return path
		}
	}
}

// figures reports the figures of one case of one subject.
type figures struct {
	scenario, name string
	subject        server.Subject
	to             func(measure.Figure)
}

func (f figures) value(metric, unit string, v float64) {
	f.to(measure.Figure{Scenario: f.scenario, Case: f.name, Subject: string(f.subject), Metric: metric, Unit: unit, Value: v})
}

func (f figures) micros(metric string, d time.Duration, per int) {
	f.value(metric, "µs", float64(d.Nanoseconds())/1e3/float64(per))
}

func (f figures) millis(metric string, d time.Duration) {
	f.value(metric, "ms", float64(d.Nanoseconds())/1e6)
}

// size is how much work is done.
type size int

const (
	tiny size = iota
	quick
	full
)

func (s Suite) size(o measure.Options) size {
	switch {
	case s.Tiny:
		return tiny
	case o.Quick:
		return quick
	default:
		return full
	}
}

// pick returns what belongs to a size.
func pick[T any](s size, whenTiny, whenQuick, whenFull T) T {
	return [...]T{tiny: whenTiny, quick: whenQuick, full: whenFull}[s]
}
