package notify

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// The subjects.
const (
	goNSQ    = "go-nsq"      // its Producer, and its Consumer with a handler that does nothing
	busAlone = "nsqbus"      // the node's bus, with a listener that does nothing
	node     = "entity-sync" // all of Entity Sync
)

const topic = "items"

// loneID is the key that a node's client watches, for its delay to be measured.
const loneID = "lone"

// subject is what is measured, in its own process, and ends with it.
type subject interface {
	// announce returns when a broker has acknowledged all ids.
	announce(ctx context.Context, ids []string) error
	heard() int // ids since the start
	// arrived takes the time at which loneID has come to where something would be done
	// about it.
	arrived() <-chan time.Time
}

func newSubject(c config) (subject, error) {
	switch c.Subject {
	case node:
		return newNode(c)
	case busAlone:
		return newBus(c)
	default:
		return newClient(c)
	}
}

var discard = slog.New(slog.DiscardHandler)

// nodeSubject is a node with one client of its own, which watches many keys.
type nodeSubject struct {
	sync   *es.EntitySync
	writer *es.EntitySync
	lone   chan time.Time
}

func newNode(c config) (subject, error) {
	s, err := es.New(es.Config{NSQAddr: c.NSQD, Logger: discard})
	if err != nil {
		return nil, err
	}
	// Another node announces: a node's own clients wait for no bus.
	writer, err := es.New(es.Config{NSQAddr: c.NSQD, Logger: discard})
	if err == nil {
		err = writer.Bridge.Announce(topic)
	}
	if err != nil {
		return nil, err
	}
	n := &nodeSubject{sync: s, writer: writer, lone: make(chan time.Time, 1)}
	err = es.RegisterRows(s, topic, func(_ context.Context, key shared.EntityKey, _ string) ([]string, error) {
		if key.ID == loneID {
			select {
			case n.lone <- time.Now():
			default:
			}
		}
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	client := s.Bridge.NewClient(nobody{}, bridge.ClientOptions{MaxSubscriptions: -1})
	watched := append(make([]string, 0, c.Watched+1), loneID)
	for i := range c.Watched {
		watched = append(watched, "watched "+strconv.Itoa(i))
	}
	for _, id := range watched {
		if err := client.Subscribe(shared.EntityKey{Entity: topic, ID: id}, bridge.SubscribeOptions{}); err != nil {
			return nil, err
		}
	}
	// What is watched is looked at when the bus is joined: that is not measured.
	return n, eventually(func() bool {
		fetches := s.Bridge.Stats()
		return s.Ready() && fetches.FetchesQueued+fetches.FetchesRunning == 0
	})
}

func (n *nodeSubject) announce(ctx context.Context, ids []string) error {
	keys := make([]shared.EntityKey, len(ids))
	for i, id := range ids {
		keys[i] = shared.EntityKey{Entity: topic, ID: id}
	}
	return n.writer.Notify(ctx, keys...)
}

func (n *nodeSubject) heard() int                { return int(n.sync.Bridge.Stats().Notified) }
func (n *nodeSubject) arrived() <-chan time.Time { return n.lone }

// nobody is a client that is not there.
type nobody struct{}

func (nobody) Push(*bridge.Slot, *bridge.Update) {}
func (nobody) Drop(*bridge.Slot) bool            { return false }

// busSubject is nsqbus by itself.
type busSubject struct {
	bus      *nsqbus.Bus
	live     atomic.Bool
	messages atomic.Int64
}

func newBus(c config) (subject, error) {
	bus, err := nsqbus.New(nsqbus.Config{Addrs: []string{c.NSQD}, Logger: discard})
	if err != nil {
		return nil, err
	}
	s := &busSubject{bus: bus}
	if err := bus.Subscribe(topic, s); err != nil {
		return nil, err
	}
	return s, eventually(s.live.Load)
}

func (s *busSubject) Message([]byte) { s.messages.Add(1) }
func (s *busSubject) Live()          { s.live.Store(true) }
func (s *busSubject) Lost(error)     {}

func (s *busSubject) announce(ctx context.Context, ids []string) error {
	for _, id := range ids {
		if err := s.bus.Publish(ctx, topic, body(id)); err != nil {
			return err
		}
	}
	return nil
}

func (s *busSubject) heard() int                { return int(s.messages.Load()) }
func (s *busSubject) arrived() <-chan time.Time { return nil }

// clientSubject is go-nsq, set up as well as it can be.
type clientSubject struct {
	producer *nsq.Producer
	consumer *nsq.Consumer
	messages atomic.Int64
	lone     chan time.Time
}

func newClient(c config) (subject, error) {
	settings := nsq.NewConfig()
	settings.MaxInFlight = 2500
	settings.OutputBufferSize = -1 // or else nsqd keeps a lone message back for 250 ms
	settings.OutputBufferTimeout = -1
	var err error
	s := &clientSubject{lone: make(chan time.Time, 1)}
	if s.consumer, err = nsq.NewConsumer(topic, "bench#ephemeral", settings); err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0)
	s.consumer.SetLogger(quiet, nsq.LogLevelError)
	s.consumer.AddHandler(s)
	if err := s.consumer.ConnectToNSQD(c.NSQD); err != nil {
		return nil, err
	}
	if s.producer, err = nsq.NewProducer(c.NSQD, settings); err != nil {
		return nil, err
	}
	s.producer.SetLogger(quiet, nsq.LogLevelError)
	// The subscription is not acknowledged when ConnectToNSQD returns, but a message
	// shows that it is there.
	if err := s.announce(context.Background(), []string{"first"}); err != nil {
		return nil, err
	}
	if err := eventually(func() bool { return s.messages.Load() == 1 }); err != nil {
		return nil, err
	}
	<-s.lone
	return s, nil
}

// HandleMessage implements nsq.Handler.
func (s *clientSubject) HandleMessage(*nsq.Message) error {
	s.messages.Add(1)
	select {
	case s.lone <- time.Now():
	default:
	}
	return nil
}

func (s *clientSubject) announce(_ context.Context, ids []string) error {
	if len(ids) == 1 {
		return s.producer.Publish(topic, body(ids[0]))
	}
	bodies := make([][]byte, len(ids))
	for i, id := range ids {
		bodies[i] = body(id)
	}
	return s.producer.MultiPublish(topic, bodies)
}

func (s *clientSubject) heard() int                { return int(s.messages.Load()) }
func (s *clientSubject) arrived() <-chan time.Time { return s.lone }

// body is how a program of its own announces a key.
func body(id string) []byte { return []byte(`{"entity":"` + topic + `","id":"` + id + `"}`) }

// patience is how long is waited for what must happen.
const patience = 30 * time.Second

// eventually waits for a condition.
func eventually(ok func() bool) error {
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("gave up after %v", patience)
		}
	}
	return nil
}
