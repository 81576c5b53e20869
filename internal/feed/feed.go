// Package feed carries texts from node to node over a bus that may lose, double and
// reorder its messages, and notices what was lost.
//
// A Node is one process's place on the bus. It has a Feed for each topic. The messages on a
// Feed are numbered, and each node publishes its last number at intervals. When a number does
// not arrive, the Listener is told of a Gap: some message was missed, and its texts are not
// known.
//
// The Listener decides what the texts mean: they are the ids of changed keys, or revocations.
//
// # Locks
// publisher.mu, then Node.mu; and gapDetector.mu by itself. On a Stream: recordQueue.mu, then
// Node.mu; and reorder.mu, then serial.mu. None is held across a call of the bus or of a
// Listener.
package feed

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/shared"
)

// Listener takes the messages of one topic. Its methods may be called from several
// goroutines at once. They return at once, and never panic.
type Listener interface {
	// Changed takes one text, perhaps not for the first time. A text that this node
	// publishes is passed to Changed before it goes to the bus, even if the bus then fails.
	Changed(Change)

	// Gap says that texts may have been missed, or are being missed from now on.
	Gap(Gap)
}

// Change is one text, and what is known of the message that brought it.
type Change struct {
	ID        string    // the text, which stays valid
	Published time.Time // by the publisher's clock; zero if the message does not say
	Trace     string    // the publisher's W3C traceparent; empty if the message does not say
}

// Gap says what may have been missed.
type Gap struct {
	Reason Reason

	// Position is what Config.Position returned before this Gap's messages can have been
	// missed. Work that began at a greater Position has missed none of them.
	Position uint64

	Missing uint64 // how many messages have not arrived, if the Reason is Missing
	Joined  int    // how many publishers were heard for the first time, if it is Missing or Midway
	Err     error  // the cause, if it is Disconnected
}

// Reason is why there is a Gap.
type Reason uint8

const (
	// Connected: a broker has acknowledged a subscription. Messages published before then
	// may have been missed.
	Connected Reason = iota + 1

	// Disconnected: messages of other nodes may be missed, until Connected.
	Disconnected

	// Missing: numbered messages have not arrived.
	Missing

	// Midway: the first message heard of a publisher was not its first.
	Midway
)

// Feed is one topic on the bus, of one Node.
type Feed struct {
	node     *Node
	topic    shared.EntityType
	listener atomic.Pointer[Listener] // nil if the node only publishes
	live     atomic.Bool              // subscribed on the bus
	spread   atomic.Bool              // every message goes to every broker
	publish  publisher
	gaps     gapDetector
	stream   *Stream // that the Feed is of, or nil; guarded by the Node's lock until Listen
}

// Topic returns the Feed's topic on the bus.
func (f *Feed) Topic() shared.EntityType { return f.topic }

// Listen has l hear the topic from now on. It may be called once. It returns the bus's error
// if the bus could never accept the subscription.
func (f *Feed) Listen(l Listener) error {
	f.listener.Store(&l)
	if err := f.node.config.Bus.Subscribe(f.topic, listener{f}); err != nil {
		f.listener.Store(nil)
		return err
	}
	return nil
}

// Live reports whether the topic is subscribed on the bus, so that messages of other nodes
// are heard.
func (f *Feed) Live() bool { return f.live.Load() }

// listens reports whether the Feed, or its Stream, has a listener.
func (f *Feed) listens() bool {
	return f.listener.Load() != nil || f.stream != nil && f.stream.listener.Load() != nil
}

func (f *Feed) close() {
	f.gaps.close()
	f.publish.close()
	if f.stream != nil {
		f.stream.publish.close()
		f.stream.order.close()
	}
}

// changed passes a change of this node to its own listener.
func (f *Feed) changed(c Change) {
	if l := f.listener.Load(); l != nil {
		(*l).Changed(c)
	}
}

func (f *Feed) gap(g Gap) {
	if l := f.listener.Load(); l != nil {
		(*l).Gap(g)
	}
}

// listener is the bus's Listener of a Feed.
type listener struct{ *Feed }

var _ bus.Listener = listener{}

// Message implements bus.Listener.
func (l listener) Message(body []byte) {
	n := l.node
	m, err := decodeMessage(l.topic, body)
	if err != nil {
		if times, say := n.badMessages.Again(); say { // bad messages must not fill the disk
			n.config.Logger.Warn("ignoring a bus message", slog.String("entity", string(l.topic)),
				slog.Int("bytes", len(body)), slog.Uint64("so_far", times), slog.Any("error", err))
		}
		return
	}
	if l.stream != nil {
		l.stream.order.hear(m)
		return
	}
	if m.From == n.name {
		return // this node's own: changed has passed it on already
	}
	c := Change{Trace: m.Trace}
	if m.At != 0 {
		c.Published = time.UnixMilli(m.At)
	}
	for id := range m.each {
		c.ID = id
		l.changed(c)
	}
	if m.From != "" && m.Seq != 0 {
		l.gaps.hear(m)
	}
}

// Live implements bus.Listener.
func (l listener) Live() {
	position := l.node.config.Position() // work that begins from now on has missed nothing
	was, g := l.live.Swap(true), Gap{Reason: Connected, Position: position}
	switch {
	case l.stream == nil:
		l.gap(g)
	case !was: // otherwise another broker has gone on, and numbers say what is missing
		l.stream.order.connected(g)
	}
}

// Lost implements bus.Listener.
func (l listener) Lost(err error) {
	l.live.Store(false)
	g := Gap{Reason: Disconnected, Err: err}
	if l.stream != nil {
		l.stream.order.disconnected(g)
		return
	}
	l.gap(g)
}
