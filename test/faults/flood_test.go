package faults

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// What a client may have taken of it: the defaults of MessageRate and
// SubscribeRate, each after a burst of ten times as many.
const (
	messageRate, messageBurst     = 100, 1000
	subscribeRate, subscribeBurst = 200, 2000
)

// flooder subscribes and unsubscribes as fast as it can.
type flooder struct {
	conn *websocket.Conn
	list int // keys in a message

	sent, acks, told int
}

// Clients subscribe and unsubscribe ten thousand times a second. They are slowed
// down, and told so; nobody else feels it.
func TestF21FloodOfSubscriptions(t *testing.T) {
	w := newWorld(t, shape{nsqds: 1, nodes: 2})
	node := w.nodes[0]
	keys := w.keysOf(items, "item", 40)
	w.crowdWith(sized(20, 200), 4, keys, options{dial: w.at(node)})
	b := w.addBystander(batch, "bystander", w.nodes[1], node)
	w.warm()
	w.settle()
	before := b.calm(sized(500*time.Millisecond, 5*time.Second))
	was := node.stats(t)

	d := sized(2*time.Second, 20*time.Second)
	var flooders []*flooder
	var work sync.WaitGroup
	for i := range sized(4, 16) {
		f := &flooder{list: 1}
		if i%4 == 3 {
			f.list = 100
		}
		var err error
		f.conn, err = dialWire(t.Context(), websocket.DefaultDialer, node.Addr, v2Wire)
		must(t, err)
		defer f.conn.Close()
		flooders = append(flooders, f)
		end := time.Now().Add(d)
		work.Go(func() { f.flood(w.check, fmt.Sprintf("flooder%d.0", i), end) })
		work.Go(func() { f.read(w.check, end) })
	}
	work.Wait()
	is := node.stats(t)
	samples, _ := b.count()
	seconds := int(d/time.Second) + 1
	sent, acks, keysTaken := 0, 0, 0
	for _, f := range flooders {
		sent, acks = sent+f.sent, acks+f.acks
		// On a busy machine the node may not have come to what is more than the burst.
		if f.told == 0 && (f.acks > messageBurst || f.acks/2*f.list > subscribeBurst) {
			t.Errorf("a client that sent %d messages, of which %d were taken, was not told that it is too fast", f.sent, f.acks)
		}
		taken := messageBurst + messageRate*seconds
		if f.acks > taken {
			t.Errorf("%d messages of a client were taken within %v, want %d at most", f.acks, d, taken)
		}
		// Every other message subscribes.
		keysTaken += min(taken/2*f.list, subscribeBurst+subscribeRate*seconds)
	}
	most := uint64(keysTaken + 4*samples + 100) //nolint:gosec // none is negative
	fetched := is.Fetches - was.Fetches
	t.Logf("%d clients sent %d messages in %v, of which %d were taken, with %d fetches; heap %d KiB -> %d KiB",
		len(flooders), sent, d, acks, fetched, was.Heap>>10, is.Heap>>10)
	if fetched > most {
		t.Errorf("%d fetches, want %d at most", fetched, most)
	}
	if acks == sent {
		t.Error("all was taken: it was no flood")
	}
	b.undisturbed(before, time.Second)
	b.end()
	for _, f := range flooders {
		depart(f.conn, resets)
	}
	w.until("those are gone", func() bool { return node.stats(t).Clients == was.Clients })
	w.settle()
	if got := node.stats(t).Subscriptions; got != was.Subscriptions {
		t.Errorf("%d subscriptions are left, and there were %d before", got, was.Subscriptions)
	}
}

// flood sends ten thousand messages a second, or as many as the node reads.
func (f *flooder) flood(c *checker, identity string, end time.Time) {
	const perTick = 100
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	err := firstError(f.conn.SetWriteDeadline(end), sendTo(f.conn, "secret", secretOf(identity)))
	for err == nil && time.Now().Before(end) {
		for i := 0; i < perTick && err == nil; i++ {
			action := shared.ActionSubscribe
			if f.sent%2 == 1 {
				action = shared.ActionUnsubscribe
			}
			err = sendTo(f.conn, string(action), f.keys(f.sent/2))
			f.sent++
		}
		<-tick.C
	}
	if err != nil && !isTimeout(err) { // it is read more slowly than this, as it should be
		c.breach("INV8: a client that is too fast, writing: %v", err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// keys are others each time.
func (f *flooder) keys(n int) (keys []shared.EntityKey) {
	for i := range f.list {
		keys = append(keys, key(items, fmt.Sprintf("flood%d-%d", n, i)))
	}
	return keys
}

func (f *flooder) read(c *checker, end time.Time) {
	if err := f.conn.SetReadDeadline(end.Add(500 * time.Millisecond)); err != nil {
		c.breach("INV8: %v", err)
		return
	}
	for {
		_, message, err := f.conn.ReadMessage()
		if isTimeout(err) {
			return
		}
		g, ok := frameOf(message)
		if err != nil || !ok {
			c.breach("INV8: a client that is too fast, reading: %.100q, %v", message, err)
			return
		}
		switch {
		case g.Action == "ack":
			f.acks++
		case g.Action == "error" && g.Code == wire.CodeRateLimited:
			f.told++
		case g.Action != "delete": // there is no such row
			c.breach("INV8: a client that was too fast got %.200q", message)
		}
	}
}
