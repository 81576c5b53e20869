package faults

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// load is writers that write random keys on random nodes.
type load struct {
	world *world
	keys  []shared.EntityKey
	stop  context.CancelFunc
	work  sync.WaitGroup

	writers   int
	pause     time.Duration
	deletions bool

	mu      sync.Mutex // guards what follows
	writes  int
	refused int // writes that a node did not take: there was no node, or no database
	errors  []string
	slowest time.Duration               // of all calls of Notify
	owed    map[shared.EntityKey]string // written, or perhaps, and not announced
}

// startLoad starts writers, each with a pause after each write.
func (w *world) startLoad(writers int, pause time.Duration, keys []shared.EntityKey) *load {
	return w.startLoadWith(writers, pause, keys, false)
}

// startLoadWith is startLoad; with deletions some of the writes remove a row.
func (w *world) startLoadWith(writers int, pause time.Duration, keys []shared.EntityKey, deletions bool) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{
		world: w, keys: keys, stop: stop, owed: make(map[shared.EntityKey]string),
		writers: writers, pause: pause, deletions: deletions,
	}
	for range writers {
		random := fork(w.random)
		l.work.Go(func() {
			for ctx.Err() == nil {
				l.write(ctx, random, keys[random.IntN(len(keys))])
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	w.t.Cleanup(l.end)
	return l
}

func (l *load) write(ctx context.Context, random *rand.Rand, k shared.EntityKey) {
	n := l.world.someNode()
	if n == nil {
		return
	}
	q := writeRequest{Do: update, Key: k}
	if l.deletions && random.IntN(4) == 0 {
		q.Do = remove
	}
	// A write that was sent is waited for, also where the test ends meanwhile.
	a, err := n.write(context.WithoutCancel(ctx), q)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.refused++
		l.owed[k] = err.Error()
		return
	}
	l.writes++
	l.slowest = max(l.slowest, a.Notify)
	if a.Error != "" {
		l.errors = append(l.errors, a.Error)
		l.owed[k] = a.Error
	}
}

// end stops the writers.
func (l *load) end() {
	l.stop()
	l.work.Wait()
}

// repaired stops the writers while a fault lasts, and notes how long it takes
// until everybody has what was written up to then. The load that it returns goes
// on writing.
func (l *load) repaired(fault string) *load {
	w := l.world
	w.t.Helper()
	l.end()
	l.announce()
	took := w.settle()
	w.t.Logf("%s: everybody has all that was written before after %v", fault, round(took))
	l.report()
	return w.startLoad(l.writers, l.pause, l.keys)
}

// announce announces what could not be announced, as an application does that
// was told so: a write whose node was killed may be committed all the same.
func (l *load) announce() {
	l.world.t.Helper()
	for k := range l.owed {
		l.world.until("it is announced that "+k.Hash()+" has changed", func() bool {
			a, err := l.world.someNode().write(l.world.t.Context(), writeRequest{Do: announce, Key: k})
			return err == nil && a.Error == ""
		})
	}
}

// report prints the figures.
func (l *load) report() {
	l.world.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.world.t.Logf("%d writes, %d not taken by a node, %d whose announcement failed; the slowest Notify took %v",
		l.writes, l.refused, len(l.errors), round(l.slowest))
}

// bystander is a client that has nothing to do with the fault. Its row is written
// again and again, and what counts is how long each write takes to reach it.
type bystander struct {
	world *world
	via   *node
	key   shared.EntityKey
	seen  chan row
	stop  context.CancelFunc
	ended chan struct{}

	mayFail bool // its writes are not announced to everybody, through the fault

	mu       sync.Mutex // guards what follows
	samples  []time.Duration
	lost     int
	repeated int             // writes whose announcement failed
	yards    []time.Duration // how long the same work took meanwhile, which no fault holds up
}

// lostAfter is when a row counts as lost, or as good as.
const lostAfter = patience

// addBystander adds one whose row is written on node via, and which watches it
// on node at.
func (w *world) addBystander(entity shared.EntityType, id string, via, at *node) *bystander {
	w.t.Helper()
	k := key(entity, id)
	w.move(k, true)
	w.db.create(w.t, entity, "", id)
	ctx, stop := context.WithCancel(context.Background())
	b := &bystander{world: w, via: via, key: k, seen: make(chan row, 1000), stop: stop, ended: make(chan struct{})}
	w.joinWith("bystander", options{dial: w.at(at), onRow: b.got(ctx)}, []shared.EntityKey{k})
	go b.run(ctx) // end waits for it
	w.t.Cleanup(b.end)
	return b
}

// got passes a row on, unless nobody waits for rows any more.
func (b *bystander) got(ctx context.Context) func(row) {
	return func(r row) {
		select {
		case b.seen <- r:
		case <-ctx.Done():
		}
	}
}

func (b *bystander) run(ctx context.Context) {
	defer close(b.ended)
	for ctx.Err() == nil {
		b.sample(ctx)
		b.measure()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (b *bystander) sample(ctx context.Context) {
	begin := time.Now()
	a, err := b.write(ctx)
	if err != nil {
		b.world.check.breach("INV7: a bystander's write failed: %v", err)
		return
	}
	late := time.After(lostAfter)
	for {
		select {
		case r := <-b.seen:
			if r.Rev < a.Rev {
				continue
			}
			b.mu.Lock()
			b.samples = append(b.samples, time.Since(begin))
			b.mu.Unlock()
			return
		case <-ctx.Done():
			return // nobody counts this one any more
		case <-late:
			b.mu.Lock()
			b.lost++
			b.mu.Unlock()
			return
		}
	}
}

// write writes the row until that was announced, as an application does. A machine
// with so much to do that the announcement is not acknowledged in its time is told
// so; that counts, and so does the time it takes.
func (b *bystander) write(ctx context.Context) (written, error) {
	for {
		a, err := b.via.write(context.WithoutCancel(ctx), writeRequest{Do: update, Key: b.key})
		if err != nil || a.Error == "" || b.mayFail || ctx.Err() != nil {
			return a, err
		}
		b.mu.Lock()
		b.repeated++
		b.mu.Unlock()
	}
}

func (b *bystander) end() {
	b.stop()
	<-b.ended
	b.world.move(b.key, false)
}

// measure notes how long a piece of work takes just now.
func (b *bystander) measure() {
	took := yardstick()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.yards = append(b.yards, took)
}

// take returns the samples since it was called last, and how long the same work took
// meanwhile.
func (b *bystander) take() (samples, yards []time.Duration, lost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	samples, yards, lost = b.samples, b.yards, b.lost
	b.samples, b.yards, b.lost = nil, nil, 0
	slices.Sort(samples)
	slices.Sort(yards)
	return samples, yards, lost
}

// count returns how many samples there are since take was called last.
func (b *bystander) count() (samples, lost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.samples), b.lost
}

func p99(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*99/100]
}

// calm notes how a bystander fares while nothing is wrong.
func (b *bystander) calm(d time.Duration) time.Duration {
	b.world.t.Helper()
	b.world.until("a bystander has its first rows", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.samples) > 3
	})
	b.take()
	b.world.sleep(d)
	samples, yards, lost := b.take()
	if lost > 0 || len(samples) == 0 || len(yards) == 0 {
		b.world.t.Fatalf("INV7: before the fault a bystander got %d rows and missed %d", len(samples), lost)
	}
	b.world.usual = yards[len(yards)/2]
	return p99(samples)
}

// undisturbed checks INV7: during the fault a bystander fared about as before.
// The machine may be busy with what the test does besides, and with other
// things. So floor is allowed in any case, and more where work that has nothing to do
// with the fault takes longer, too. It returns how many times longer.
func (b *bystander) undisturbed(before, floor time.Duration) (slowdown float64) {
	b.world.t.Helper()
	samples, yards, lost := b.take()
	during := p99(samples)
	if b.world.usual == 0 {
		b.world.t.Fatal("no bystander was looked at before the fault")
	}
	slowdown = max(1, float64(p99(yards))/float64(b.world.usual))
	b.mu.Lock()
	repeated := b.repeated
	b.mu.Unlock()
	b.world.t.Logf("a bystander's rows took %v (p99) before, %v during the fault (%d rows, %d announced again; slowdown %.1f)",
		round(before), round(during), len(samples), repeated, slowdown)
	// Where the machine is much slower it takes nsqd longer to answer as well.
	if most := float64(len(samples)) * min(slowdown, 25) / 100; float64(repeated) > most {
		b.world.t.Errorf("INV7: of a bystander's %d announcements %d failed, want %.0f at most", len(samples), repeated, most)
	}
	if limit := time.Duration(float64(max(5*before, floor)) * slowdown); lost > 0 || len(samples) == 0 || during > limit {
		b.world.t.Errorf("INV7: a bystander was held up: p99 %v, before %v, want %v at most; %d rows, %d lost", during, before, limit, len(samples), lost)
	}
	return slowdown
}
