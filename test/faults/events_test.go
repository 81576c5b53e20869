package faults

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/wire"
)

// eventNodes starts two nodes on an nsqd, with the channel news.
func eventNodes(t *testing.T, c es.Config, opts ...es.ChannelOption) (*nsqdtest.Daemon, []*nodetest.Node) {
	t.Helper()
	nsqd := nsqdtest.Start(t)
	c.NSQAddr = nsqd.Addr
	nodes := []*nodetest.Node{nodetest.Start(t, c), nodetest.Start(t, c)}
	for _, n := range nodes {
		if err := es.RegisterChannel(n.EntitySync, "news", opts...); err != nil {
			t.Fatal(err)
		}
	}
	untilOnTheBus(t, nodes)
	return nsqd, nodes
}

func untilOnTheBus(t *testing.T, nodes []*nodetest.Node) {
	t.Helper()
	for _, n := range nodes {
		testkit.Until(t, "the nodes are on the bus", n.Bridge.Ready)
	}
}

// told is the data of an event: the goroutine that has published it, and its number there.
type told struct{ By, N int }

// crier is a goroutine that publishes one event after the other.
type crier struct {
	node *nodetest.Node
	by   int
	ok   []bool // by number: Publish returned nil; read once the crier has ended

	taken, refused atomic.Int64
}

func (c *crier) cry(pause time.Duration) error {
	err := c.node.Publish(context.Background(), "news.uk", told{c.by, len(c.ok)})
	if c.ok = append(c.ok, err == nil); err != nil {
		c.refused.Add(1)
		return err
	}
	c.taken.Add(1)
	time.Sleep(pause)
	return nil
}

// cryAll has criers of each node publish until the function that it returns is called.
func cryAll(nodes []*nodetest.Node, each int, pause time.Duration) (criers []*crier, hush func()) {
	var hushed atomic.Bool
	var working sync.WaitGroup
	for _, n := range nodes {
		for range each {
			c := &crier{node: n, by: len(criers)}
			criers = append(criers, c)
			working.Go(func() {
				for !hushed.Load() {
					_ = c.cry(pause) // it is noted
				}
			})
		}
	}
	return criers, sync.OnceFunc(func() {
		hushed.Store(true)
		working.Wait()
	})
}

func total(criers []*crier, figure func(*crier) *atomic.Int64) (n int64) {
	for _, c := range criers {
		n += figure(c).Load()
	}
	return n
}

func taken(c *crier) *atomic.Int64   { return &c.taken }
func refused(c *crier) *atomic.Int64 { return &c.refused }

// hearer is a client that is subscribed to the news, and what it is told.
type hearer struct {
	*socket.Conn
	replies []wire.Reply // events and gaps
	ended   chan struct{}
}

// hearNews reads until the last events of all criers, or the connection ends.
func hearNews(t *testing.T, n *nodetest.Node, criers int) *hearer {
	t.Helper()
	h := &hearer{Conn: socket.DialV2(t, n.URL), ended: make(chan struct{})}
	h.Send(`{"action":"subscribe","ref":1,"body":{"topic":"news"}}`)
	h.Until("the subscription", func(r wire.Reply) bool { return r.Action == wire.ActionAck })
	go func() {
		defer close(h.ended)
		for ends := 0; ends < criers; {
			_, text, err := h.ReadMessage()
			if err != nil {
				return
			}
			r, _ := wire.ReadReply(text)
			switch {
			case r.Action == wire.ActionEvent && r.Topic == "news.end":
				ends++
			case r.Action == wire.ActionEvent || r.Action == wire.ActionGap:
				h.replies = append(h.replies, r)
			}
		}
	}()
	t.Cleanup(func() {
		_ = h.SetReadDeadline(time.Now())
		<-h.ended
	})
	return h
}

// check returns how many events a hearer has missed and was told of. Of what Publish returned nil
// for, it has each event once and in order, or a gap in its place.
func (h *hearer) check(t *testing.T, criers []*crier) (missed, gaps int) {
	t.Helper()
	next, mayMiss := make([]int, len(criers)), make([]bool, len(criers))
	pass := func(by, to int) {
		for n := next[by]; n < to; n++ {
			if criers[by].ok[n] {
				if missed++; !mayMiss[by] {
					t.Errorf("event %d of %d did not come, and nothing was told in its place", n, by)
				}
			}
		}
		mayMiss[by] = false
	}
	for _, r := range h.replies {
		if r.Action == wire.ActionGap {
			gaps++
			for by := range mayMiss {
				mayMiss[by] = true
			}
			continue
		}
		var what told
		e, err := shared.ParseEvent(r.Event)
		if err == nil {
			err = json.Unmarshal(e.Data(), &what)
		}
		if err != nil {
			t.Fatal(err)
		}
		if what.N < next[what.By] {
			t.Errorf("event %d of %d came after %d", what.N, what.By, next[what.By]-1)
			continue
		}
		pass(what.By, what.N)
		next[what.By] = what.N + 1
	}
	for by, c := range criers {
		pass(by, len(c.ok))
	}
	return missed, gaps
}

// nsqd is killed while 16 goroutines of each node publish events. What each client has received and
// been told covers every event that was acknowledged. The test logs how many events that were.
func TestEV1KillNSQDUnderEvents(t *testing.T) {
	random := randomFor(t)
	nsqd, nodes := eventNodes(t, es.Config{}, es.Public())
	const each = 16
	var hearers []*hearer
	for _, n := range nodes {
		for range 3 {
			hearers = append(hearers, hearNews(t, n, len(nodes)))
		}
	}
	began := time.Now()
	criers, hush := cryAll(nodes, each, 2*time.Millisecond)
	t.Cleanup(hush)
	for range sized(2, 6) {
		more := total(criers, taken) + 2000 + random.Int64N(2000)
		testkit.Until(t, "events are published", func() bool { return total(criers, taken) >= more })
		time.Sleep(time.Duration(random.IntN(int(100 * time.Millisecond))))
		enough := total(criers, refused) + 1 + random.Int64N(20)
		nsqd.Kill(t)
		testkit.Until(t, "events are refused", func() bool { return total(criers, refused) >= enough })
		nsqd.Start(t)
		untilOnTheBus(t, nodes)
	}
	hush()
	took := time.Since(began)
	for _, n := range nodes {
		testkit.Until(t, "the end is published", func() bool { return n.Publish(t.Context(), "news.end", nil) == nil })
	}
	missed, gaps := 0, 0
	for i, h := range hearers {
		select {
		case <-h.ended:
		case <-time.After(patience):
			t.Fatalf("client %d has not heard the end", i)
		}
		m, g := h.check(t, criers)
		missed, gaps = missed+m, gaps+g
	}
	t.Logf("%d events in %v were acknowledged and %d refused; %d clients missed %d, and were told in %d gaps",
		total(criers, taken), round(took), total(criers, refused), len(hearers), missed, gaps)
}

// While events are in flight, the application withdraws the right of some clients. A client is sent
// nothing after it has been told so, and the others hear on.
func TestEV6ARightIsWithdrawnWhileEventsAreInFlight(t *testing.T) {
	random := randomFor(t)
	_, nodes := eventNodes(t, es.Config{
		Authorize: func(_ context.Context, a shared.AccessRequest) error {
			if strings.HasPrefix(a.Secret.Reveal(), "bad") {
				return shared.ErrForbidden
			}
			return nil
		},
		VerifySecret: func(context.Context, string) (expires time.Time, err error) { return expires, nil },
	})
	var clients []*socket.Conn
	for i := range sized(20, 200) {
		c := socket.DialV2(t, nodes[i%len(nodes)].URL)
		c.Send(`{"action":"secret","body":"good"}`)
		c.Send(`{"action":"subscribe","ref":1,"body":{"topic":"news"}}`)
		c.Until("the subscription", func(r wire.Reply) bool { return r.Action == wire.ActionAck && string(r.Ref) == "1" })
		clients = append(clients, c)
	}
	criers, hush := cryAll(nodes, 4, 2*time.Millisecond)
	t.Cleanup(hush)
	isEvent := func(r wire.Reply) bool { return r.Action == wire.ActionEvent }
	for i, c := range clients {
		c.Until("an event", isEvent)
		if random.IntN(2) == 0 {
			continue // hears on
		}
		c.Send(`{"action":"secret","ref":2,"body":"bad %d"}`, i)
		r := c.Until("the end of the subscription", func(r wire.Reply) bool { return r.Action == wire.ActionUnsubscribed })
		if r.Topic != "news" || r.Code != wire.CodeForbidden {
			t.Errorf("got %s", socket.Line(r))
		}
		more := total(criers, taken) + 20
		testkit.Until(t, "more events are published", func() bool { return total(criers, taken) >= more })
		c.Send(`{"action":"unsubscribe","ref":3,"body":{}}`)
		for answered := false; !answered; {
			r := c.Reply()
			if isEvent(r) || r.Action == wire.ActionGap {
				t.Errorf("client %d got %s after the end of its subscription", i, socket.Line(r))
			}
			answered = string(r.Ref) == "3"
		}
		clients[i] = nil
	}
	hush()
	for _, n := range nodes {
		if err := n.Publish(t.Context(), "news.end", nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		if c != nil {
			c.Until("the end", func(r wire.Reply) bool { return isEvent(r) && r.Topic == "news.end" })
		}
	}
}
