package test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/client"
	"github.com/entity-sync/entity-sync/web/wire"
)

// tell has nsqd do something to a topic, or to a channel on it, by its HTTP port.
func tell(t *testing.T, nsqd *nsqdtest.Daemon, what string, entity shared.EntityType, channel string) {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	query := url.Values{"topic": {entity.GetQueueName()}}
	if channel != "" {
		query.Set("channel", channel)
	}
	answer, err := http.Post("http://"+nsqd.HTTPAddr+what+"?"+query.Encode(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNotFound { // a channel may be gone already
		t.Fatalf("nsqd answered %s with %s", what, answer.Status)
	}
}

// While a topic is paused nsqd acknowledges everything and hands nothing on, though
// all connections live. Each client is told, at the node that announced as well.
func TestAPausedTopicIsNotHidden(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	nodes := []*node{startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})}
	untilReady(t, nodes...)
	rev := db.write("100")
	var screens []*show
	for _, n := range nodes {
		s := watchOn(t, n.URL, "me").shows(t, "100")
		s.until(client.Live, rev)
		screens = append(screens, s)
	}
	for range 2 {
		tell(t, nsqd, "/topic/pause", items, "")
		missed := db.write("100")
		begin := time.Now()
		nodes[0].notify(t, "100")
		for _, s := range screens {
			s.until(client.Stale, rev)
		}
		t.Logf("told after %v", time.Since(begin).Round(time.Millisecond))
		for i, n := range nodes {
			if n.Ready() || n.Bridge.Stats().Entities[items].Live {
				t.Errorf("node %d says that it hears of changes", i)
			}
		}
		begin = time.Now()
		tell(t, nsqd, "/topic/unpause", items, "")
		for _, s := range screens {
			s.until(client.Live, missed)
		}
		t.Logf("right again after %v", time.Since(begin).Round(time.Millisecond))
		untilReady(t, nodes...)
		rev = missed
	}
}

// A node that is cut off from one of several nsqd, to which the others publish, hears
// by way of the rest how far they have come, and whose sessions are to end.
func TestANodeCutOffFromOneNSQDIsNotDeaf(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]cut{"closed": closed, "frozen": frozen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, y := nsqdtest.Start(t), nsqdtest.Start(t)
			line := newCable(t, x.Addr)
			var db database
			here := startNode(t, &db, es.Config{NSQAddr: line.addr + "," + y.Addr})
			there := startNode(t, &db, es.Config{NSQAddr: x.Addr + "," + y.Addr})
			for _, n := range []*node{here, there} {
				testkit.Until(t, "all is subscribed everywhere", func() bool { return goneFrom(n) == "" })
			}
			rev := db.write("100")
			there.notify(t, "100") // to X, and so from now on
			s := watchOn(t, here.URL, "me").shows(t, "100")
			s.until(client.Live, rev)
			revoked := here.dial(t, "bad")
			revoked.watch("100")

			line.set(how)
			begin := time.Now()
			rev = db.write("100")
			there.notify(t, "100")
			if err := there.Revoke(t.Context(), mark+"bad"); err != nil {
				t.Error(err)
			}
			if code := revoked.CloseCode(); code != wire.CloseRevoked {
				t.Errorf("the session was closed with %d, want %d", code, wire.CloseRevoked)
			}
			t.Logf("sent away after %v", time.Since(begin).Round(time.Millisecond))
			s.until(client.Live, rev)
			t.Logf("the row after %v", time.Since(begin).Round(time.Millisecond))

			testkit.Until(t, "the figures say which nsqd is not reached", func() bool { return goneFrom(here) == line.addr })
			if got := goneFrom(there); got != "" {
				t.Errorf("the other node says that it does not reach %s", got)
			}
			line.set(whole)
			testkit.Until(t, "the figures say that all is reached again", func() bool { return goneFrom(here) == "" })
		})
	}
}

// goneFrom returns the nsqd on which a node does not hear all topics.
func goneFrom(n *node) (addrs string) {
	for _, b := range n.Bridge.Stats().Brokers {
		if b.Gone+b.Silent > 0 || b.Live == 0 {
			addrs += b.Addr
		}
	}
	return addrs
}

// Topics and channels are deleted while nodes subscribe to them anew, so that a node
// may end on a channel that is in no topic: its connection lives, and brings nothing.
func TestWhoIsLeftOnADeletedChannelSubscribesAnew(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	nodes := []*node{startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})}
	untilReady(t, nodes...)
	rev := db.write("100")
	var screens []*show
	for _, n := range nodes {
		s := watchOn(t, n.URL, "me").shows(t, "100")
		s.until(client.Live, rev)
		screens = append(screens, s)
	}
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	for _, n := range nodes {
		writing.Go(func() {
			for ctx.Err() == nil {
				db.write("100")
				_ = n.Notify(ctx, item("100")) // nsqd refuses some in the moment of a deletion
			}
		})
	}
	for i := range 60 {
		if i%2 == 0 {
			tell(t, nsqd, "/topic/delete", items, "")
			continue
		}
		for _, channel := range channels(t, nsqd, items) {
			tell(t, nsqd, "/channel/delete", items, channel)
		}
	}
	stop()
	writing.Wait()
	begin := time.Now()
	testkit.Until(t, "each node has its channel", func() bool { return len(channels(t, nsqd, items)) == len(nodes) })
	for _, n := range nodes {
		rev = db.write("100")
		n.notify(t, "100")
		for _, s := range screens {
			s.until(client.Live, rev)
		}
	}
	t.Logf("all well after %v", time.Since(begin).Round(time.Millisecond))
}

// A paused channel is one node's alone, and that node mends it: a new connection has a
// new channel.
func TestAPausedChannelIsLeft(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	var db database
	nodes := []*node{startNode(t, &db, es.Config{NSQAddr: nsqd.Addr}), startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})}
	untilReady(t, nodes...)
	rev := db.write("100")
	var screens []*show
	for _, n := range nodes {
		s := watchOn(t, n.URL, "me").shows(t, "100")
		s.until(client.Live, rev)
		screens = append(screens, s)
	}
	// Who announces needs no channel for its own clients, so a third node does.
	writer := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
	untilReady(t, writer)
	paused := channels(t, nsqd, items)
	for _, channel := range paused {
		tell(t, nsqd, "/channel/pause", items, channel)
	}
	begin := time.Now()
	rev = db.write("100")
	writer.notify(t, "100")
	for _, s := range screens {
		s.until(client.Live, rev)
	}
	t.Logf("the row after %v", time.Since(begin).Round(time.Millisecond))
}

// channels returns the channels of a topic that have a client.
func channels(t *testing.T, nsqd *nsqdtest.Daemon, entity shared.EntityType) (names []string) {
	t.Helper()
	answer, err := http.Get("http://" + nsqd.HTTPAddr + "/stats?format=json&topic=" + entity.GetQueueName())
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer answer.Body.Close()
	var stats struct {
		Topics []struct {
			Channels []struct {
				Name    string `json:"channel_name"`
				Clients int    `json:"client_count"`
			} `json:"channels"`
		} `json:"topics"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		t.Fatal(err)
	}
	for _, topic := range stats.Topics {
		for _, channel := range topic.Channels {
			if channel.Clients > 0 {
				names = append(names, channel.Name)
			}
		}
	}
	return names
}
