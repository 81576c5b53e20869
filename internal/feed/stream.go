package feed

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// Stream is a topic of which nothing is left out: what is published on it is heard by each node
// that listens, in its publisher's order, once, or is missing in a Gap. What a node publishes it
// hears itself by way of the bus, as all others do, so that there is one order for all.
type Stream struct {
	feed     *Feed
	listener atomic.Pointer[StreamListener]
	publish  recordQueue
	order    reorder
	calls    serial
}

// StreamListener takes what is heard on a Stream. Its methods are called one after the other.
// They return at once, and never panic.
type StreamListener interface {
	Record(Record)

	// Gap says that records may have been missed, or are being missed from now on: for
	// Missing between what was heard of a publisher before and after the call.
	Gap(Gap)
}

// Record is one text of a Stream, and what is known of the message that brought it.
type Record struct {
	Text      json.RawMessage // valid JSON, valid for as long as anybody keeps it
	From      string          // its publisher; empty for a program that is not a node
	Published time.Time       // by the publisher's clock
	Trace     string          // the publisher's W3C traceparent; empty where it does not say
}

// maxAge is how old a record may be. What is older was kept by a broker while nobody heard it,
// and is no news.
const maxAge = 30 * time.Second

// Stream returns the Stream of a topic, which is made when it is first asked for. Topic is not
// to be called with its name.
func (n *Node) Stream(topic shared.EntityType) *Stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.topicLocked(topic, true) // a broker that is out of reach is no reason to miss anything
	if f.stream == nil {
		f.stream = &Stream{feed: f}
		f.stream.publish.stream, f.stream.order.stream = f.stream, f.stream
	}
	return f.stream
}

// Listen has l hear the Stream from now on. It may be called once. The error is the bus's,
// which could never accept the subscription.
func (s *Stream) Listen(l StreamListener) error {
	s.listener.Store(&l)
	if err := s.feed.node.config.Bus.Subscribe(s.feed.topic, listener{s.feed}); err != nil {
		s.listener.Store(nil)
		return err
	}
	return nil
}

// Live reports whether the Stream is subscribed on the bus.
func (s *Stream) Live() bool { return s.feed.Live() }

// Name returns what the node is called on the bus: a text of letters and digits, another one
// at every start.
func (n *Node) Name() string { return n.name }

// run makes the calls that were added while the caller held a lock, unless another goroutine is
// making them.
func (s *Stream) run() {
	s.calls.run(func(call func(StreamListener)) {
		if l := s.listener.Load(); l != nil {
			call(*l)
		}
	})
}

// serial is calls that are made one after the other, in the order in which they were added.
type serial struct {
	mu      sync.Mutex // guards what follows
	waiting []func(StreamListener)
	running bool
}

func (s *serial) add(call func(StreamListener)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, call)
}

// take returns what was added. Without anything the goroutine that asked makes calls no more.
func (s *serial) take() (calls []func(StreamListener)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, s.waiting = s.waiting, nil
	s.running = len(calls) > 0
	return calls
}

// begin returns false where another goroutine makes the calls.
func (s *serial) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return false
	}
	s.running = true
	return true
}

func (s *serial) run(do func(func(StreamListener))) {
	if !s.begin() {
		return
	}
	for calls := s.take(); len(calls) > 0; calls = s.take() {
		for _, call := range calls {
			do(call)
		}
	}
}
