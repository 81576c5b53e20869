package bridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// two is a node that announces and one that listens over a faulty bus, with a
// client that watches key.
type two struct {
	from, to *node
	bus      *faultyBus
	db       *table
	screen   *screen
}

func newTwo(t *testing.T) *two {
	t.Helper()
	var broker membus.Broker
	w := &two{db: &table{}, bus: &faultyBus{Bus: broker.NewNode()}}
	w.from = newNode(t, &broker)
	w.to = newNodeWith(t, &broker, bridge.Config{Bus: w.bus})
	w.from.register(t, w.db.fetch, bridge.EntityOptions{})
	w.to.register(t, w.db.fetch, bridge.EntityOptions{})
	w.screen = newScreen(w.to, "")
	w.screen.subscribe(t, key, withSnapshot)
	synctest.Wait()
	return w
}

func (w *two) change(t *testing.T, k shared.EntityKey) {
	t.Helper()
	w.db.write(k)
	w.from.notify(t, k)
	synctest.Wait()
}

func (w *two) lose(lost bool) {
	w.bus.setFate(func([]byte) fate { return fate{lost: lost} })
}

func (w *two) wantRev(t *testing.T, rev int) {
	t.Helper()
	rows := w.screen.rows()
	if want := fmt.Sprintf(`"rev":%d,`, rev); len(rows) == 0 || !strings.Contains(rows[len(rows)-1], want) {
		t.Errorf("the client saw %v, want it to end with revision %d", rows, rev)
	}
}

var other = shared.EntityKey{Entity: items, ID: "other"}

func TestALostNotificationShowsByTheNextOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.change(t, other) // so that the publisher is known
		w.lose(true)
		w.change(t, key)
		w.lose(false)
		w.wantRev(t, 0)
		w.change(t, other) // of another key, with a later number
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		w.wantRev(t, 1)
		if got := w.to.Stats().Resyncs.Lost; got != 1 {
			t.Errorf("%d resyncs for lost notifications, want 1", got)
		}
	})
}

func TestALostLastNotificationShowsByTheBeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.change(t, other)
		w.lose(true)
		w.change(t, key)
		w.lose(false)
		time.Sleep(6100 * time.Millisecond) // a beat and its grace
		synctest.Wait()
		w.wantRev(t, 1)
	})
}

func TestTheVeryFirstNotificationLostShowsByTheBeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.lose(true)
		w.change(t, key)
		w.lose(false)
		time.Sleep(6100 * time.Millisecond)
		synctest.Wait()
		w.wantRev(t, 1)
	})
}

func TestTheLastNotificationOfANodeThatLeavesShowsByItsLastBeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.change(t, other)
		w.lose(true)
		w.change(t, key)
		w.lose(false)
		if err := w.from.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		w.wantRev(t, 1)
	})
}

func TestReorderedAndDoubledNotificationsAreNoLoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.change(t, other)
		n := 0
		w.bus.setFate(func([]byte) fate {
			n++
			return fate{doubled: n%2 == 0, delay: time.Duration(n%5) * 200 * time.Millisecond}
		})
		for range 50 {
			w.change(t, key)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		w.wantRev(t, 50)
		if got := w.to.Stats().Resyncs; got.Lost != 0 || got.Midway != 0 {
			t.Errorf("resyncs: %+v, want none but joining", got)
		}
	})
}

func TestAQuietBusCausesNoWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.change(t, key)
		before := w.to.Stats()
		time.Sleep(time.Hour)
		after := w.to.Stats()
		if after.Fetches != before.Fetches || after.Resyncs != before.Resyncs || after.BadMessages != 0 {
			t.Errorf("an hour of beats: %+v, before %+v", after, before)
		}
	})
}

// A resync pushes only what differs, fetches nothing that was fetched since the
// hole was noticed, and leaves other entity types alone.
func TestAResyncIsOfTheEntityTypeInDoubtAndPushesDifferencesOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		for _, n := range []*node{w.from, w.to} {
			if err := n.Register("users", w.db.fetch, bridge.EntityOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		bystander := newScreen(w.to, "")
		bystander.subscribe(t, shared.EntityKey{Entity: "users", ID: "1"}, withSnapshot)
		w.screen.subscribe(t, other, withSnapshot)
		w.change(t, other)
		w.lose(true)
		w.change(t, key)
		w.lose(false)
		w.change(t, other) // shows the hole
		w.change(t, other) // fetched since, so known to be fresh
		seen, fetched := len(w.screen.all()), w.db.count()
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		w.wantRev(t, 1)
		if got := len(w.screen.all()) - seen; got != 1 {
			t.Errorf("the resync pushed %d updates, want the one that was missed", got)
		}
		if got := w.db.count() - fetched; got != 1 {
			t.Errorf("the resync made %d fetches, want 1", got)
		}
		if got := len(bystander.all()); got != 1 {
			t.Errorf("another entity type's client saw %d updates, want its snapshot", got)
		}
	})
}

// A second loss while the first is within its grace has a grace of its own: a
// view that was fetched between the two is not fresh.
func TestALossWithinTheGraceOfAnotherIsRepairedToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.screen.subscribe(t, other, withSnapshot)
		w.change(t, other)
		w.lose(true)
		w.change(t, other) // lost
		w.lose(false)
		w.change(t, key) // shows the first hole, and is fetched
		time.Sleep(500 * time.Millisecond)
		w.lose(true)
		w.change(t, key) // lost as well
		w.lose(false)
		w.change(t, other) // shows the second hole
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		w.wantRev(t, 2)
	})
}

// A node that joins late hears of a publisher in the middle of its count.
func TestAPublisherFirstHeardOfInTheMiddleIsNotTrusted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.lose(true)
		w.change(t, key) // lost, and number 1
		w.lose(false)
		w.change(t, other) // number 2 is the first that is heard
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		w.wantRev(t, 1)
		if got := w.to.Stats().Resyncs; got.Midway != 1 || got.Lost != 0 {
			t.Errorf("resyncs: %+v, want one for a stranger", got)
		}
	})
}

// Whoever can publish can forge: it costs bounded memory and bounded work.
func TestForgedNumbersAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		var db table
		n := newNode(t, &broker)
		n.register(t, db.fetch, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		stranger := broker.NewNode()
		for i := range 20_000 {
			body := fmt.Appendf(nil, `{"entity":"items","from":"forged %d","seq":%d}`, i, uint64(1)<<63+uint64(i))
			if err := stranger.Publish(t.Context(), items, body); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := n.Stats().Fetches; got > 10 {
			t.Errorf("%d fetches for forged numbers", got)
		}
		for _, body := range [][]byte{
			[]byte(`{"entity":"items","from":"x"}`), []byte(`{"entity":"items","seq":1}`), []byte(`{"entity":"items","from":"x","seq":-1}`),
			fmt.Appendf(nil, `{"entity":"items","id":"1","seq":1,"from":%q}`, bytes.Repeat([]byte("x"), 65)),
		} {
			before := n.Stats().BadMessages
			if err := stranger.Publish(t.Context(), items, body); err != nil {
				t.Fatal(err)
			}
			if n.Stats().BadMessages != before+1 {
				t.Errorf("%.60s was taken", body)
			}
		}
		if err := stranger.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A client that was never sent anything is not served by a fetch for another
// that joins, so such a fetch does not make its view fresh.
func TestAJoinersFetchDoesNotStandInForARepair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		quiet := newScreen(w.to, "quiet")
		quiet.subscribe(t, key, bridge.SubscribeOptions{})
		w.change(t, other)
		w.lose(true)
		w.change(t, key) // the quiet client's first, lost
		w.lose(false)
		w.change(t, other) // shows the hole
		joiner := newScreen(w.to, "quiet")
		joiner.subscribe(t, key, withSnapshot)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if got := len(quiet.all()); got != 1 {
			t.Errorf("the client that missed its first saw %d updates, want 1", got)
		}
	})
}

// Somebody speaks in a publisher's name, with a number it has not come to.
func TestAForgedNumberDoesNotEndTheAudit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var from string
		var broker membus.Broker
		var db table
		spy := &faultyBus{Bus: broker.NewNode()}
		spy.setFate(func(body []byte) fate {
			var note struct{ From string }
			if err := json.Unmarshal(body, &note); err == nil && note.From != "" {
				from = note.From
			}
			return fate{}
		})
		sender, n := newNode(t, &broker), newNodeWith(t, &broker, bridge.Config{Bus: spy})
		sender.register(t, db.fetch, bridge.EntityOptions{})
		n.register(t, db.fetch, bridge.EntityOptions{})
		s := newScreen(n, "")
		s.subscribe(t, key, withSnapshot)
		sender.notify(t, other)
		forger := broker.NewNode()
		forged := fmt.Appendf(nil, `{"entity":"items","id":"x","from":%q,"seq":%d}`, from, uint64(math.MaxUint64))
		if err := forger.Publish(t.Context(), items, forged); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		spy.setFate(func([]byte) fate { return fate{lost: true} })
		db.write(key)
		sender.notify(t, key)
		spy.setFate(nil)
		sender.notify(t, other)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if rows := s.rows(); !strings.Contains(rows[len(rows)-1], `"rev":1,`) {
			t.Errorf("a loss after the forgery was not repaired: %q", rows)
		}
		if err := forger.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A publisher that is forgotten while one of its messages is missing.
func TestADoubtOutlivesItsPublishersMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newTwo(t)
		w.change(t, other)
		w.lose(true)
		w.change(t, key)
		w.lose(false)
		w.change(t, other) // shows the hole
		stranger := w.to.broker.NewNode()
		time.Sleep(time.Millisecond)
		for i := range 2000 {
			if err := stranger.Publish(t.Context(), items, fmt.Appendf(nil, `{"entity":"items","id":"x","from":"node %d","seq":1}`, i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		w.wantRev(t, 1)
		if err := stranger.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A notification is lost, and before that is certain a client moves to a view that
// was fetched in the meantime. What was fetched there was not for it.
func TestAClientThatMovesWithinTheGraceMissesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		bus := &faultyBus{Bus: broker.NewNode()}
		n, other := newNodeWith(t, &broker, bridge.Config{Bus: bus}), newNode(t, &broker)
		var db table
		var broken atomic.Bool
		n.register(t, func(ctx context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
			if secret == mark+"new" && broken.Load() {
				return nil, errors.New("broken")
			}
			return db.fetch(ctx, k, secret)
		}, bridge.EntityOptions{})
		other.register(t, db.fetch, bridge.EntityOptions{})
		mover, settled := newScreen(n, "old"), newScreen(n, "new")
		mover.subscribe(t, key, bridge.SubscribeOptions{})
		settled.subscribe(t, key, bridge.SubscribeOptions{})
		write := func() {
			db.write(key)
			other.notify(t, key)
			synctest.Wait()
		}
		write()
		time.Sleep(time.Minute)
		broken.Store(true)
		write() // the mover gets it; the other view is to be tried again
		bus.setFate(func([]byte) fate { return fate{lost: true} })
		write()
		bus.setFate(nil)
		other.notify(t, shared.EntityKey{Entity: items, ID: "another"}) // which shows the hole
		synctest.Wait()
		broken.Store(false)
		time.Sleep(500 * time.Millisecond) // the other view is tried again
		mover.become("new")
		time.Sleep(time.Minute)
		if got := mover.rows(); !strings.Contains(got[len(got)-1], `"rev":3`) {
			t.Errorf("saw %q, want it to end with revision 3", got)
		}
	})
}
