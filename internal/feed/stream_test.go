package feed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/feed"
	"github.com/entity-sync/entity-sync/shared"
)

// wires is a bus of one Node that takes what is published apart from what is heard: the test
// hands bodies on as it likes.
type wires struct {
	mu       sync.Mutex
	listener bus.Listener
	sent     [][]byte // published and not handed on by the test yet
	refuse   error    // what Publish returns
	largest  int      // bytes; zero for no limit
	stuck    bool     // Publish takes as long as it may
}

func (w *wires) Publish(ctx context.Context, _ shared.EntityType, body []byte) error {
	w.mu.Lock()
	refuse, largest, stuck := w.refuse, w.largest, w.stuck
	if refuse == nil && !stuck && (largest == 0 || len(body) <= largest) {
		w.sent = append(w.sent, body)
	}
	w.mu.Unlock()
	switch {
	case stuck:
		<-ctx.Done()
		return ctx.Err()
	case largest > 0 && len(body) > largest:
		return bus.ErrTooLarge
	}
	return refuse
}

func (w *wires) Subscribe(_ shared.EntityType, l bus.Listener) error {
	w.listener = l
	return nil
}

func (w *wires) Close(context.Context) error { return nil }

func (w *wires) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// take returns what was published since it was last called.
func (w *wires) take() (bodies [][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	bodies, w.sent = w.sent, nil
	return bodies
}

// hearing is a StreamListener that remembers what it heard, in order: texts, "gap 2" of a number
// of messages, and "gap" of reasons otherwise.
type hearing struct {
	mu    sync.Mutex
	heard []string
	gaps  []feed.Gap
}

func (h *hearing) Record(r feed.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, string(r.Text))
}

func (h *hearing) Gap(g feed.Gap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gaps = append(h.gaps, g)
	switch g.Reason {
	case feed.Missing:
		h.heard = append(h.heard, fmt.Sprint("gap ", g.Missing))
	case feed.Midway:
		h.heard = append(h.heard, "midway")
	case feed.Connected:
		h.heard = append(h.heard, "connected")
	case feed.Disconnected:
		h.heard = append(h.heard, "disconnected")
	}
}

func (h *hearing) take() (heard []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	heard, h.heard = h.heard, nil
	return heard
}

const events shared.EntityType = "es.events"

// station is a Node with a Stream that listens.
type station struct {
	bus    *wires
	node   *feed.Node
	stream *feed.Stream
	ear    *hearing

	position atomic.Uint64
}

func newStation(t *testing.T) *station {
	t.Helper()
	s := &station{bus: &wires{}, ear: &hearing{}}
	s.node = feed.NewNode(feed.Config{
		Bus: s.bus, PublishTimeout: time.Second, BeatInterval: 4 * time.Second, Grace: grace,
		Position: s.position.Load, Logger: slog.New(slog.NewTextHandler(canary.Output(t), nil)),
	})
	s.stream = s.node.Stream(events)
	if err := s.stream.Listen(s.ear); err != nil {
		t.Fatal(err)
	}
	s.bus.listener.Live()
	if got := s.ear.take(); !slices.Equal(got, []string{"connected"}) {
		t.Errorf("at the beginning: %q", got)
	}
	t.Cleanup(func() {
		s.bus.set(func() { s.bus.stuck = false })
		if err := errors.Join(s.node.StopPublishing(context.Background()), s.node.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *station) publish(t *testing.T, records ...string) {
	t.Helper()
	for _, r := range records {
		if err := s.stream.Publish(t.Context(), json.RawMessage(r)); err != nil {
			t.Errorf("publishing %s: %v", r, err)
		}
	}
}

// message is a body as another node would publish it now.
func message(from string, seq int, records ...string) []byte {
	text := fmt.Sprintf(`{"entity":"es.events","from":%q,"seq":%d`, from, seq)
	if len(records) > 0 {
		text += fmt.Sprintf(`,"at":%d,"records":[%s]`, time.Now().UnixMilli(), strings.Join(records, ","))
	}
	return []byte(text + "}")
}

func (s *station) hear(bodies ...[]byte) {
	for _, b := range bodies {
		body := slices.Clone(b)
		s.bus.listener.Message(body)
		clear(body) // it is valid no longer
	}
}

func (s *station) want(t *testing.T, want ...string) {
	t.Helper()
	if got := s.ear.take(); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// A node hears its own records by way of the bus, and in no other way.
func TestOwnRecordsComeByTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.publish(t, `{"a":1}`, `"b"`, `3`)
		s.want(t)
		s.hear(s.bus.take()...)
		s.want(t, `{"a":1}`, `"b"`, `3`)
	})
}

func TestRecordsAreHeardInOrderAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		a := [][]byte{nil, message("a", 1, "1"), message("a", 2, "2", "3"), message("a", 3, "4"), message("a", 4, "5")}
		b := [][]byte{nil, message("b", 1, "10"), message("b", 2, "20")}
		s.hear(a[1], a[3], b[1], a[1], a[4], a[3])
		s.want(t, "1", "10")
		s.hear(a[2], b[2], a[2])
		s.want(t, "2", "3", "4", "5", "20")
		time.Sleep(10 * grace)
		s.want(t)
	})
}

// A hole that does not close within the grace is a gap in its place.
func TestAHoleIsAGapInItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.hear(message("a", 1, "1"), message("a", 4, "4"))
		time.Sleep(grace / 2)
		s.hear(message("a", 7, "7"))
		s.want(t, "1")
		time.Sleep(grace/2 + time.Millisecond)
		synctest.Wait()
		s.want(t, "gap 2", "4") // the second hole has a grace of its own
		s.hear(message("a", 3, "3"))
		time.Sleep(grace)
		synctest.Wait()
		s.want(t, "gap 2", "7")
		s.hear(message("a", 8, "8"), message("a", 10)) // a beat says that there was a tenth
		time.Sleep(grace)
		synctest.Wait()
		s.want(t, "8", "gap 2")
	})
}

// A node notices by its own beats that its own records are lost.
func TestOwnRecordsThatAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.publish(t, "1", "2")
		s.bus.take() // lost
		time.Sleep(4 * time.Second)
		synctest.Wait()
		s.hear(s.bus.take()...) // a beat
		time.Sleep(grace)
		synctest.Wait()
		s.want(t, "gap 2")
	})
}

// Who is heard first in the midst of its count may have published what was missed.
func TestAPublisherHeardMidway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.hear(message("a", 50, "50"), message("a", 51, "51"), message("b", 3), message("b", 4, "4"))
		s.want(t, "midway", "50", "51", "midway", "4")
	})
}

// The first messages of a new publisher overtake each other by way of several brokers.
func TestTheFirstMessagesOvertakeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		first, second, third := message("a", 1, "1"), message("a", 2, "2"), message("a", 3, "3")
		s.hear(second, third, first)
		s.want(t, "1", "2", "3")
		s.hear(message("b", 2, "2"))
		s.want(t)
		time.Sleep(grace)
		synctest.Wait()
		s.want(t, "gap 1", "2")
	})
}

// What a broker has kept while nobody heard it is not news: it is missing.
func TestABacklogIsNotNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.hear(message("a", 1, "1"))
		second, unnumbered := message("a", 2, "2"), []byte(fmt.Sprintf(`{"entity":"es.events","at":%d,"records":["x"]}`, time.Now().UnixMilli()))
		s.hear(unnumbered)
		time.Sleep(31 * time.Second)
		s.hear(second, message("a", 3, "3"), unnumbered, []byte(`{"entity":"es.events","records":["y"]}`))
		s.want(t, "1", `"x"`, "gap 1", "3")

		s.bus.listener.Lost(errors.New("gone"))
		fourth := message("a", 4, "4")
		time.Sleep(time.Second)
		s.bus.listener.Live()
		s.hear(fourth, message("a", 5, "5"))
		s.bus.listener.Live() // another broker: the numbers say what is missing
		s.want(t, "disconnected", "connected", "gap 1", "5")
	})
}

// What piles up while a message is under way goes together, up to 32 KiB.
func TestRecordsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.bus.set(func() { s.bus.stuck = true })
		var all sync.WaitGroup
		publish := func(record string) {
			all.Go(func() { _ = s.stream.Publish(context.Background(), json.RawMessage(record)) })
			synctest.Wait()
		}
		publish(`"first"`) // fails, as it is stuck
		for n := range 100 {
			publish(fmt.Sprintf(`"%04d%s"`, n, strings.Repeat("x", 994)))
		}
		s.bus.set(func() { s.bus.stuck = false })
		all.Wait()
		bodies := s.bus.take()
		if len(bodies) != 4 {
			t.Errorf("100 KB went in %d messages, want 4", len(bodies))
		}
		s.hear(bodies...)
		time.Sleep(grace)
		synctest.Wait()
		heard := s.ear.take()
		if len(heard) != 100 || !slices.IsSorted(heard) {
			t.Errorf("heard %d things, want 100 in order", len(heard))
		}
	})
}

func TestABrokerThatTakesLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.bus.set(func() { s.bus.largest = 2000 })
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() { s.publish(t, fmt.Sprintf(`"%d%s"`, n, strings.Repeat("x", 500))) })
			synctest.Wait()
		}
		all.Wait()
		if err := s.stream.Publish(t.Context(), json.RawMessage(`"`+strings.Repeat("x", 3000)+`"`)); !errors.Is(err, shared.ErrTooLarge) {
			t.Errorf("a record that the broker does not take: %v, want ErrTooLarge", err)
		}
		s.publish(t, `"last"`)
		s.hear(s.bus.take()...)
		if heard := s.ear.take(); len(heard) != 9 || heard[8] != `"last"` {
			t.Errorf("heard %d records, want 9 and no gap: nobody has heard the number of what was refused", len(heard))
		}
	})
}

func TestPublishingOnAStreamFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.bus.set(func() { s.bus.refuse = fmt.Errorf("%w: away", shared.ErrUnavailable) })
		if err := s.stream.Publish(t.Context(), json.RawMessage("1")); !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("the bus is away: %v, want ErrUnavailable", err)
		}
		s.bus.set(func() { s.bus.refuse, s.bus.stuck = nil, true })
		begin := time.Now()
		if err := s.stream.Publish(t.Context(), json.RawMessage("2")); !errors.Is(err, shared.ErrUnavailable) || time.Since(begin) != time.Second {
			t.Errorf("the bus is stuck: %v after %v, want ErrUnavailable after a second", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := s.stream.Publish(ctx, json.RawMessage("3")); !errors.Is(err, shared.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the context ends: %v", err)
		}
		if err := s.stream.Publish(ctx, json.RawMessage("4")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the context has ended: %v", err)
		}
		time.Sleep(time.Second)
		s.bus.set(func() { s.bus.stuck = false })
		s.publish(t, "5")
		s.hear(s.bus.take()...)
		time.Sleep(grace)
		synctest.Wait()
		s.want(t, "5") // the others' callers have had an error
		s.bus.set(func() { s.bus.refuse = fmt.Errorf("%w: away", shared.ErrUnavailable) })
		_ = s.stream.Publish(t.Context(), json.RawMessage("6"))
		time.Sleep(5 * time.Second) // for a beat
		s.bus.set(func() { s.bus.refuse = nil })
		time.Sleep(5 * time.Second)
		s.hear(s.bus.take()...)
		time.Sleep(grace)
		synctest.Wait()
		s.want(t)
		if err := s.node.StopPublishing(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.stream.Publish(t.Context(), json.RawMessage("7")); !errors.Is(err, shared.ErrClosed) {
			t.Errorf("the node is closing: %v, want ErrClosed", err)
		}
	})
}

// What is held until a hole closes is bounded, of all publishers together.
func TestWhatIsHeldForAHoleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		large := `"` + strings.Repeat("x", 31<<10) + `"`
		for n := range 200 { // 6 MiB
			s.hear(message("a", 2*n+2, large))
		}
		heard := s.ear.take()
		if len(heard) == 0 {
			t.Fatal("nothing was given up though 6 MiB are held")
		}
		if heard[0] != "gap 1" || heard[1] != large {
			t.Errorf("the first thing heard is %.20q", heard[0])
		}
		for n := range 5000 { // numbers that nobody can have overtaken
			s.hear(message("b", 2*n+1, "1"))
		}
		if len(s.ear.take()) == 0 {
			t.Error("nothing was given up though 5,000 holes are open")
		}
		time.Sleep(2 * grace)
		synctest.Wait()
	})
}

// Who began after a hole was noticed may miss what is given up with the hole.
func TestWhatIsGivenUpWithAnOlderHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t)
		s.position.Store(7)
		s.hear(message("a", 1, "1"), message("a", 3, "3"))
		s.position.Store(8)
		for n := range 5000 { // numbers that nobody can have overtaken
			s.hear(message("a", 2*n+5, "1"))
		}
		gaps := s.ear.gaps[1:]
		if len(gaps) < 2 {
			t.Fatalf("%d gaps though 5,000 holes are open", len(gaps))
		}
		for _, g := range gaps {
			if g.Position != 8 {
				t.Fatalf("a gap is told to those who were there at %d, want 8", g.Position)
			}
		}
	})
}

// Messages are lost, doubled and overtake each other: what is heard is in each publisher's
// order, once, and what is not heard is missing in a gap between its neighbours.
func TestAStreamUnderRandomSchedules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStation(t)
			publishers := []string{"a", "b", "c"}
			next, skipped, acked := map[string]int{}, map[string]int{}, map[string][]int{}
			var flying [][]byte
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				switch rapid.SampledFrom([]string{"publish", "publish", "publish", "lose", "double", "arrive", "arrive", "arrive", "beat", "wait"}).Draw(rt, "step") {
				case "publish":
					p := rapid.SampledFrom(publishers).Draw(rt, "publisher")
					next[p]++
					if rapid.IntRange(0, 4).Draw(rt, "refused") == 0 {
						skipped[p]++ // and may get through all the same
						if rapid.Bool().Draw(rt, "got through") {
							flying = append(flying, message(p, next[p], fmt.Sprintf(`"%s%d?"`, p, next[p])))
						}
						continue
					}
					m := string(message(p, next[p], fmt.Sprintf(`"%s%d"`, p, next[p])))
					flying = append(flying, []byte(strings.Replace(m, `,"at"`, fmt.Sprintf(`,"skip":%d,"at"`, skipped[p]), 1)))
					skipped[p], acked[p] = 0, append(acked[p], next[p])
				case "beat":
					if p := rapid.SampledFrom(publishers).Draw(rt, "publisher"); len(acked[p]) > 0 {
						s.hear(message(p, acked[p][len(acked[p])-1]))
					}
				case "wait":
					time.Sleep(time.Duration(rapid.IntRange(1, 1500).Draw(rt, "ms")) * time.Millisecond)
				case "lose":
					if len(flying) > 0 {
						i := rapid.IntRange(0, len(flying)-1).Draw(rt, "message")
						flying = slices.Delete(flying, i, i+1)
					}
				case "double":
					if len(flying) > 0 {
						s.hear(flying[rapid.IntRange(0, len(flying)-1).Draw(rt, "message")])
					}
				default:
					if len(flying) == 0 {
						continue
					}
					i := rapid.IntRange(0, len(flying)-1).Draw(rt, "message")
					s.hear(flying[i])
					flying = slices.Delete(flying, i, i+1)
				}
			}
			for _, p := range publishers {
				if n := len(acked[p]); n > 0 {
					s.hear(message(p, acked[p][n-1]))
				}
			}
			time.Sleep(3 * grace)
			synctest.Wait()
			checkStream(rt, s.ear.take(), acked)
		})
	})
}

// checkStream takes what was heard, and the numbers of the messages of each publisher that the bus
// has acknowledged.
func checkStream(t *rapid.T, heard []string, acknowledged map[string][]int) {
	last, told := map[string]int{}, map[string]bool{} // numbers heard, and whether a gap came since
	lost := func(p string, below int) int {           // the first that was acknowledged and not heard
		for _, n := range acknowledged[p] {
			if n > last[p] && n < below {
				return n
			}
		}
		return 0
	}
	for _, h := range heard {
		if h[0] != '"' {
			for p := range acknowledged {
				told[p] = true
			}
			continue
		}
		p, n := h[1:2], 0
		if _, err := fmt.Sscanf(h[2:], "%d", &n); err != nil {
			t.Fatalf("heard %q", h)
		}
		if n <= last[p] {
			t.Fatalf("%s comes after %d of its publisher: %q", h, last[p], heard)
		}
		if l := lost(p, n); l > 0 && !told[p] {
			t.Fatalf("%d, before %s, was neither heard nor missing: %q", l, h, heard)
		}
		last[p], told[p] = n, false
	}
	for p := range acknowledged {
		if l := lost(p, 1<<30); l > 0 && !told[p] {
			t.Fatalf("%d of %s was neither heard nor missing: %q", l, p, heard)
		}
	}
}
