package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// slowBus takes a second to acknowledge, and keeps what it was given.
type slowBus struct {
	bus.Bus
	mu     sync.Mutex
	bodies []string
	err    error
}

func (s *slowBus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	s.mu.Lock()
	s.bodies = append(s.bodies, string(body))
	err := s.err
	s.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	return errors.Join(err, s.Bus.Publish(ctx, entity, body))
}

func (s *slowBus) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bodies)
}

func newSlowNode(t *testing.T, timeout time.Duration) (*bridge.Bridge, *slowBus) {
	t.Helper()
	bus := &slowBus{Bus: new(membus.Broker).NewNode()}
	b, err := bridge.New(bridge.Config{Bus: bus, PublishTimeout: timeout, BeatInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	if err := b.Register(items, new(table).fetch, bridge.EntityOptions{}); err != nil {
		t.Fatal(err)
	}
	return b, bus
}

// What piles up while a message is under way goes as one, each key once; every
// caller hears when the message that carries its key was acknowledged.
func TestNotificationsThatPileUpGoTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, bus := newSlowNode(t, time.Minute)
		var wg sync.WaitGroup
		begin := time.Now()
		took := make([]time.Duration, 1001)
		call := func(i int) {
			wg.Go(func() {
				if err := b.Notify(t.Context(), shared.EntityKey{Entity: items, ID: fmt.Sprint(i % 10)}); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(begin)
			})
		}
		call(0)
		synctest.Wait()
		for i := 1; i <= 1000; i++ {
			call(i)
		}
		wg.Wait()
		if len(bus.bodies) != 2 {
			t.Fatalf("%d messages for 1,001 calls, want 2", len(bus.bodies))
		}
		var first, second struct {
			ID  string
			IDs []string
			Seq uint64
		}
		if err := errors.Join(json.Unmarshal([]byte(bus.bodies[0]), &first), json.Unmarshal([]byte(bus.bodies[1]), &second)); err != nil {
			t.Fatal(err)
		}
		if first.ID != "0" || first.Seq != 1 || len(second.IDs) != 10 || second.Seq != 2 {
			t.Errorf("published %s and %s", bus.bodies[0], bus.bodies[1])
		}
		if took[0] != time.Second || took[1] != 2*time.Second || took[1000] != 2*time.Second {
			t.Errorf("calls returned after %v, %v and %v, want 1s, 2s and 2s", took[0], took[1], took[1000])
		}
	})
}

func TestABulkNotifyIsAFewMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, bus := newSlowNode(t, time.Minute)
		keys := make([]shared.EntityKey, 10_000)
		for i := range keys {
			keys[i] = shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}
		}
		if err := b.Notify(t.Context(), keys...); err != nil {
			t.Fatal(err)
		}
		if got := len(bus.bodies); got > 20 {
			t.Errorf("%d messages for 10,000 keys", got)
		}
		if got := b.Stats().Notified; got != 10_000 {
			t.Errorf("%d keys were heard, want all", got)
		}
	})
}

// The callers of a batch that fails are told; those of the next are not.
func TestAFailedMessageFailsItsOwnCallersOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, bus := newSlowNode(t, time.Minute)
		bus.err = errors.New("broken")
		if err := b.Notify(t.Context(), key); err == nil {
			t.Error("Notify returned nil for a message that failed")
		}
		bus.err = nil
		if err := b.Notify(t.Context(), key); err != nil {
			t.Error(err)
		}
	})
}

func TestACallersDeadlineIsItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, bus := newSlowNode(t, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		patient := make(chan error)
		go func() { patient <- b.Notify(t.Context(), key) }()
		synctest.Wait()
		begin := time.Now()
		if err := b.Notify(ctx, key); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 100*time.Millisecond {
			t.Errorf("the hurried call returned %v after %v", err, time.Since(begin))
		}
		if err := <-patient; err != nil {
			t.Errorf("the patient call returned %v", err)
		}
		cancelled, cancel2 := context.WithCancel(t.Context())
		cancel2()
		time.Sleep(time.Minute)
		before := bus.count()
		if err := b.Notify(cancelled, key); !errors.Is(err, context.Canceled) || bus.count() != before {
			t.Errorf("with a context that has ended Notify returned %v", err)
		}
	})
}

// A call that publishes its own keys and is given up fails nobody who came meanwhile;
// what it announced is fetched for this node's clients all the same.
func TestACallThatIsGivenUpFailsNobodyElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, bus := newSlowNode(t, time.Minute)
		if err := b.NewClient(new(counter), bridge.ClientOptions{}).Subscribe(key, bridge.SubscribeOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := b.Stats().Fetches
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		hurried := make(chan error)
		go func() { hurried <- b.Notify(ctx, key) }()
		synctest.Wait()
		patient := make(chan error)
		go func() { patient <- b.Notify(t.Context(), shared.EntityKey{Entity: items, ID: "200"}) }()
		begin := time.Now()
		err := <-hurried
		if took := time.Since(begin); took != 100*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("the hurried call returned %v after %v, want ErrUnavailable after 100ms", err, took)
		}
		synctest.Wait()
		if got := b.Stats().Fetches; got != before+1 {
			t.Errorf("%d fetches of what could not be announced, want 1", got-before)
		}
		if err := <-patient; err != nil || bus.count() != 3 { // what was given up is tried again
			t.Errorf("the patient call returned %v after %d messages", err, bus.count())
		}
	})
}

// A caller's context says nothing of the bus: what it gives up is announced to all
// nodes all the same, and none of them misses a message and looks at everything again.
func TestACallThatIsGivenUpIsAnnouncedAllTheSame(t *testing.T) {
	for _, after := range []time.Duration{100 * time.Millisecond, 2500 * time.Millisecond} { // in the first message, and a later one
		bubble(t, func(t *testing.T) {
			var broker membus.Broker
			bus := &slowBus{Bus: broker.NewNode()}
			b := newNodeWith(t, &broker, bridge.Config{Bus: bus, PublishTimeout: time.Minute})
			other := newNode(t, &broker)
			for _, n := range []*node{b, other} {
				n.register(t, new(table).fetch, bridge.EntityOptions{})
			}
			keys := make([]shared.EntityKey, 5_000)
			for i := range keys {
				keys[i] = shared.EntityKey{Entity: items, ID: fmt.Sprint(i)}
			}
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			if err := b.Notify(ctx, keys...); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Notify returned %v", err)
			}
			time.Sleep(time.Minute)
			if got := other.Stats(); got.Notified != 5_000 || got.Lost != 0 {
				t.Errorf("the other node has heard %d keys, and missed %d messages", got.Notified, got.Lost)
			}
		})
	}
}

func TestAKeyNamedTwiceInACallIsAnnouncedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, bus := newSlowNode(t, time.Minute)
		other := shared.EntityKey{Entity: items, ID: "200"}
		if err := b.Notify(t.Context(), key, other, key); err != nil {
			t.Fatal(err)
		}
		if got := b.Stats().Notified; got != 2 {
			t.Errorf("%d keys in %q, want 2", got, bus.bodies)
		}
	})
}

// endingBus ends the goroutine of who publishes first.
type endingBus struct {
	bus.Bus
	first sync.Once
}

func (e *endingBus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	e.first.Do(runtime.Goexit)
	return e.Bus.Publish(ctx, entity, body)
}

func TestABusThatEndsTheCallersGoroutineEndsNothingElse(t *testing.T) {
	b, err := bridge.New(bridge.Config{Bus: &endingBus{Bus: new(membus.Broker).NewNode()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Register(items, new(table).fetch, bridge.EntityOptions{}); err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() { t.Errorf("Notify returned %v", b.Notify(context.Background(), key)) })
	ended.Wait()
	if err := b.Notify(context.Background(), key); err != nil {
		t.Error(err)
	}
	if err := b.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// stuckBus acknowledges nothing.
type stuckBus struct{ bus.Bus }

func (stuckBus) Publish(ctx context.Context, _ shared.EntityType, _ []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

// A call waits no longer than the time it has, of however many types its keys are
// and whatever is under way for each.
func TestACallOfSeveralTypesHasOneTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, err := bridge.New(bridge.Config{Bus: stuckBus{new(membus.Broker).NewNode()}, PublishTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close(context.Background()) })
		var keys []shared.EntityKey
		for _, name := range []shared.EntityType{"one", "two", "three"} {
			if err := b.Register(name, new(table).fetch, bridge.EntityOptions{}); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, shared.EntityKey{Entity: name, ID: "100"})
		}
		earlier := make(chan error)
		go func() { earlier <- b.Notify(t.Context(), keys...) }()
		time.Sleep(600 * time.Millisecond)
		begin := time.Now()
		err = b.Notify(t.Context(), append(keys, shared.EntityKey{Entity: "four", ID: "100"})...)
		if took := time.Since(begin); took != time.Second || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("Notify returned %v after %v, want ErrUnavailable after 1s", err, took)
		}
		for _, name := range []string{`"one"`, `"two"`, `"three"`, `"four"`} {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%v does not say that %s was not announced", err, name)
			}
		}
		<-earlier
	})
}

// Close lets what was begun come to its end.
func TestCloseWaitsForNotificationsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, _ := newSlowNode(t, time.Minute)
		done := make(chan error)
		for range 2 { // the second waits for the first
			go func() { done <- b.Notify(t.Context(), key) }()
			synctest.Wait()
		}
		closed := make(chan error)
		go func() { closed <- b.Close(t.Context()) }()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("a notification under way when the node closed: %v", err)
			}
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := b.Notify(t.Context(), key); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("Notify after Close returned %v", err)
		}
	})
}

// An application that goes on announcing does not keep the node from closing.
func TestCloseEndsThoughNotificationsGoOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, _ := newSlowNode(t, time.Minute)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 250 * time.Millisecond)
				for {
					select {
					case <-stop:
						return
					default:
					}
					if b.Notify(context.Background(), key) != nil {
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		time.Sleep(5 * time.Second)
		begin := time.Now()
		if err := b.Close(context.Background()); err != nil || time.Since(begin) > 5*time.Second {
			t.Errorf("Close returned %v after %v", err, time.Since(begin))
		}
		close(stop)
		wg.Wait()
	})
}

// flakyBus refuses one message, after it has taken some, and keeps the keys of the others.
type flakyBus struct {
	bus.Bus
	mu      sync.Mutex
	refuses int // the message, counted from 1
	tooBig  int // a message of more bytes is too large for it; zero for none
	count   int
	took    map[string]int
	wait    time.Duration

	stuckAfter int // so many messages it acknowledges none; zero for never
}

func (f *flakyBus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	select {
	case <-time.After(f.wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	var note struct {
		ID  string
		IDs []string
	}
	if err := json.Unmarshal(body, &note); err != nil {
		return err
	}
	f.mu.Lock()
	f.count++
	if f.stuckAfter > 0 && f.count > f.stuckAfter {
		f.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	switch {
	case f.count == f.refuses:
		f.mu.Unlock()
		return shared.ErrUnavailable
	case f.tooBig > 0 && len(body) > f.tooBig:
		f.mu.Unlock()
		return fmt.Errorf("a broker says: %w", bus.ErrTooLarge)
	}
	if note.ID != "" {
		note.IDs = []string{note.ID}
	}
	for _, id := range note.IDs {
		f.took[id]++
	}
	f.mu.Unlock()
	return f.Bus.Publish(ctx, entity, body)
}

func (f *flakyBus) tried() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

func (f *flakyBus) notTaken(keys []shared.EntityKey) (left []shared.EntityKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range keys {
		if f.took[k.ID] == 0 {
			left = append(left, k)
		}
	}
	return left
}

func (f *flakyBus) wantOnce(t *testing.T, keys []shared.EntityKey) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range keys {
		if f.took[k.ID] != 1 {
			t.Fatalf("key %.20s… was published %d times, want once", k.ID, f.took[k.ID])
		}
	}
	if len(f.took) != len(keys) {
		t.Errorf("%d keys were published, want %d", len(f.took), len(keys))
	}
}

func flaky(t *testing.T, f *flakyBus, timeout time.Duration) (b, other *node) {
	t.Helper()
	var broker membus.Broker
	f.Bus, f.took = broker.NewNode(), make(map[string]int)
	b = newNodeWith(t, &broker, bridge.Config{Bus: f, PublishTimeout: timeout, BeatInterval: time.Hour})
	other = newNode(t, &broker)
	for _, n := range []*node{b, other} {
		n.register(t, new(table).fetch, bridge.EntityOptions{})
	}
	return b, other
}

func manyKeys(n int, id string) []shared.EntityKey {
	keys := make([]shared.EntityKey, n)
	for i := range keys {
		keys[i] = shared.EntityKey{Entity: items, ID: fmt.Sprintf(id, i)}
	}
	return keys
}

// Config.PublishTimeout is for a message: a call of very many keys takes as long as its
// context allows, and holds up no other call for longer than a message or two.
func TestACallOfVeryManyKeys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &flakyBus{wait: 100 * time.Millisecond}
		b, other := flaky(t, f, time.Second)
		many := manyKeys(3_000, strings.Repeat("x", 240)+"%d")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		large := make(chan error)
		go func() { large <- b.Notify(ctx, many...) }()
		keys := slices.Clone(many)
		for i := range 20 {
			time.Sleep(50 * time.Millisecond)
			begin := time.Now()
			one := shared.EntityKey{Entity: items, ID: fmt.Sprint("small ", i)}
			keys = append(keys, one)
			if err := b.Notify(t.Context(), one); err != nil || time.Since(begin) > 300*time.Millisecond {
				t.Fatalf("a small call returned %v after %v", err, time.Since(begin))
			}
		}
		if err := <-large; err != nil {
			t.Fatal(err)
		}
		f.wantOnce(t, keys)
		if got := other.Stats(); got.Notified != uint64(len(keys)) || got.Lost != 0 {
			t.Errorf("another node has heard %d keys, and missed %d messages", got.Notified, got.Lost)
		}
	})
}

// Where the bus fails in between, the error says what is left: each key is published once,
// of one entity type or two.
func TestWhatIsLeftOfACallIsInItsError(t *testing.T) {
	for _, types := range []int{1, 2} {
		bubble(t, func(t *testing.T) {
			f := &flakyBus{refuses: 2}
			b, other := flaky(t, f, time.Second)
			keys := manyKeys(3_000, "%d")
			if types == 2 {
				for _, n := range []*node{b, other} {
					if err := n.Bridge.Register("people", new(table).fetch, bridge.EntityOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				for i := range 3_000 {
					keys = append(keys, shared.EntityKey{Entity: "people", ID: fmt.Sprint("person ", i)})
				}
			}
			err := b.Notify(t.Context(), append(keys, shared.EntityKey{Entity: items})...)
			left := new(shared.NotAnnouncedError)
			if !errors.As(err, &left) || !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, shared.ErrBadKey) {
				t.Fatalf("Notify returned %v", err)
			}
			if len(left.Keys) == 0 || len(left.Keys) >= len(keys) {
				t.Fatalf("%d of %d keys are left", len(left.Keys), len(keys))
			}
			if err := b.Notify(t.Context(), left.Keys...); err != nil {
				t.Fatal(err)
			}
			f.wantOnce(t, keys)
		})
	}
}

// A message that is too large for the broker is halved, again and again, and further ones
// are as small as that at once. Nobody misses a number.
func TestAMessageThatIsTooLargeIsHalved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &flakyBus{tooBig: 700}
		b, other := flaky(t, f, time.Second)
		keys := manyKeys(3_000, "%d")
		if err := b.Notify(t.Context(), keys...); err != nil {
			t.Fatal(err)
		}
		f.wantOnce(t, keys)
		time.Sleep(time.Minute)
		if got := other.Stats(); got.Notified != uint64(len(keys)) || got.Lost != 0 || got.Resyncs.Lost != 0 {
			t.Errorf("another node has heard %d keys, and missed %d messages", got.Notified, got.Lost)
		}
		if most := 4 + len(keys)*7/300; f.tried() > most {
			t.Errorf("%d messages were tried, want %d at most", f.tried(), most)
		}
		long := shared.EntityKey{Entity: items, ID: strings.Repeat("x", 255)}
		f.mu.Lock()
		f.tooBig = 200
		f.mu.Unlock()
		if err := b.Notify(t.Context(), long); !errors.Is(err, bus.ErrTooLarge) {
			t.Errorf("Notify of a key that no message has room for returned %v", err)
		}
		if err := b.Notify(t.Context(), keys[0]); err != nil {
			t.Error(err)
		}
	})
}

// What a call has left that was given up is announced in between, unless the bus fails,
// and keeps nobody waiting, nor Close.
func TestWhatIsLeftKeepsNobodyWaiting(t *testing.T) {
	for _, fails := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			f := &flakyBus{wait: 100 * time.Millisecond}
			b, _ := flaky(t, f, time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
			defer cancel()
			keys := manyKeys(3_000, strings.Repeat("x", 200)+"%d")
			left := new(shared.NotAnnouncedError)
			if err := b.Notify(ctx, keys...); !errors.As(err, &left) || !errors.Is(err, context.DeadlineExceeded) || len(left.Keys) < 2_000 {
				t.Fatalf("Notify returned %v, with %d keys left", err, len(left.Keys))
			}
			begin := time.Now()
			if err := b.Notify(t.Context(), key); err != nil || time.Since(begin) > 400*time.Millisecond {
				t.Errorf("a small call returned %v after %v", err, time.Since(begin))
			}
			if fails {
				f.mu.Lock()
				f.refuses = f.count + 1
				f.mu.Unlock()
				time.Sleep(time.Hour)
				if n := f.tried(); n > 50 {
					t.Errorf("%d messages were tried after the bus had failed", n)
				}
				return
			}
			begin = time.Now()
			if err := b.Close(t.Context()); err != nil || time.Since(begin) > time.Second {
				t.Errorf("Close returned %v after %v", err, time.Since(begin))
			}
		})
	}
}

// Config.PublishTimeout is for a message of several calls, too, and a call waits as long as
// messages go, whosever they are: those of its batch, of the one before it, and of what was
// given up.
func TestLargeCallsGoTogetherOnASlowBus(t *testing.T) {
	for _, tooBig := range []int{0, 1000} {
		bubble(t, func(t *testing.T) {
			f := &flakyBus{wait: 300 * time.Millisecond, tooBig: tooBig}
			b, other := flaky(t, f, time.Second)
			hurried := manyKeys(1_000, "hurried "+strings.Repeat("x", 240)+"%d")
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := b.Notify(ctx, hurried...); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the hurried call returned %v", err)
			}
			keys := hurried
			var calls sync.WaitGroup
			for i := range 5 {
				mine := manyKeys(1_000, fmt.Sprint(i, strings.Repeat("x", 240), "%d"))
				keys = append(keys, mine...)
				calls.Go(func() {
					if err := b.Notify(t.Context(), mine...); err != nil {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			time.Sleep(time.Hour) // what was given up has gone
			f.wantOnce(t, keys)
			if got := other.Stats(); got.Notified != uint64(len(keys)) || got.Lost != 0 {
				t.Errorf("another node has heard %d keys, and missed %d messages", got.Notified, got.Lost)
			}
		})
	}
}

// Where the bus takes no message any more, or refuses one, the error of each call has
// exactly the keys that were not acknowledged, though the message that failed had those of
// others as well, and keys that several have.
func TestTheErrorsOfLargeCallsHaveWhatWasNotAcknowledged(t *testing.T) {
	for after := range 12 { // messages
		for _, stuck := range []bool{true, false} {
			bubble(t, func(t *testing.T) {
				f := &flakyBus{wait: 300 * time.Millisecond}
				if stuck {
					f.stuckAfter = after + 1
				} else {
					f.refuses = after + 1
				}
				b, _ := flaky(t, f, time.Second)
				common := manyKeys(3, "common %d") // which each call announces for itself
				isCommon := func(k shared.EntityKey) bool { return slices.Contains(common, k) }
				var calls sync.WaitGroup
				var mu sync.Mutex
				var again []shared.EntityKey
				all := slices.Clone(common)
				for i := range 3 {
					mine := manyKeys(100, fmt.Sprint(i, strings.Repeat("x", 240), "%d"))
					all = append(all, mine...)
					calls.Go(func() {
						err := b.Notify(t.Context(), slices.Insert(slices.Clone(mine), 10, common...)...)
						left := new(shared.NotAnnouncedError)
						if err != nil && (!errors.As(err, &left) || !errors.Is(err, shared.ErrUnavailable)) {
							t.Errorf("Notify returned %v", err)
						}
						own := slices.DeleteFunc(left.Keys, isCommon)
						if want := f.notTaken(mine); stuck && !slices.Equal(own, want) {
							t.Errorf("%d keys are left, want %d", len(own), len(want))
						}
						mu.Lock()
						defer mu.Unlock()
						again = append(again, own...)
					})
				}
				calls.Wait()
				time.Sleep(time.Hour) // no message is under way
				f.mu.Lock()
				f.stuckAfter, f.refuses = 0, 0
				for _, k := range common {
					f.took[k.ID] = 1 // by however many calls it was announced
				}
				f.mu.Unlock()
				if err := b.Notify(t.Context(), again...); err != nil {
					t.Error(err)
				}
				f.wantOnce(t, all)
			})
		}
	}
}

// A broker's limit is met with few refusals, and left behind when the broker has none any
// more, though the first message that it refused had one long id and a short one.
func TestMessagesGrowAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &flakyBus{tooBig: 360} // which a message of the longest id has at most
		b, _ := flaky(t, f, time.Second)
		messages := func(what string, keys ...shared.EntityKey) int {
			before := f.tried()
			if err := b.Notify(t.Context(), keys...); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			return f.tried() - before
		}
		long := shared.EntityKey{Entity: items, ID: strings.Repeat("x", 255)}
		messages("a short one and a long one", shared.EntityKey{Entity: items, ID: "0"}, long)
		short := manyKeys(1_000, "%d")
		if got := messages("short ones", short...); got > 30 {
			t.Errorf("%d messages for 1,000 short keys", got)
		}
		const while = 11 * time.Minute // of which no beat is at the end
		time.Sleep(while)
		if got := messages("after a while", short...); got > 31 {
			t.Errorf("%d messages for 1,000 short keys, want one more at most", got)
		}
		f.mu.Lock()
		f.tooBig = 0
		f.mu.Unlock()
		for range 10 {
			time.Sleep(while)
			messages("the broker takes more", short...)
		}
		if got := messages("in the end", short...); got > 1 {
			t.Errorf("%d messages for 1,000 short keys, want one", got)
		}
	})
}

// Calls whose first part is one key, for there is no room for more, keep their further keys
// to themselves.
func TestCallsThatGoTogetherKeepTheirKeysApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &flakyBus{wait: 100 * time.Millisecond, tooBig: 360}
		b, _ := flaky(t, f, time.Second)
		keys := manyKeys(2, strings.Repeat("x", 254)+"%d")
		if err := b.Notify(t.Context(), keys...); err != nil { // which are refused together
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for i := range 20 {
			mine := manyKeys(5, fmt.Sprint(i+10, strings.Repeat("x", 252), "%d"))
			keys = append(keys, mine...)
			calls.Go(func() {
				if err := b.Notify(t.Context(), mine...); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		f.wantOnce(t, keys)
	})
}

// A node's own clients wait for no broker, and what comes back from it costs nothing.
func TestANodesOwnClientsWaitForNoBroker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		db := &table{}
		n := newNodeWith(t, &broker, bridge.Config{Bus: &slowBus{Bus: broker.NewNode()}, PublishTimeout: time.Minute})
		other := newNode(t, &broker)
		for _, n := range []*node{n, other} {
			n.register(t, db.fetch, bridge.EntityOptions{})
		}
		here, there := newScreen(n, ""), newScreen(other, "")
		here.subscribe(t, key, bridge.SubscribeOptions{})
		there.subscribe(t, key, bridge.SubscribeOptions{})
		synctest.Wait()
		db.write(key)
		done := make(chan error)
		go func() { done <- n.Notify(t.Context(), key) }()
		synctest.Wait()
		if got, elsewhere := len(here.rows()), len(there.rows()); got != 1 || elsewhere != 0 {
			t.Errorf("%d rows here and %d there while the broker has not acknowledged, want 1 and 0", got, elsewhere)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got, elsewhere := len(here.rows()), len(there.rows()); got != 1 || elsewhere != 1 {
			t.Errorf("%d rows here and %d there in the end, want 1 and 1", got, elsewhere)
		}
		if got := db.count(); got != 2 {
			t.Errorf("%d fetches of one change on two nodes", got)
		}
	})
}
