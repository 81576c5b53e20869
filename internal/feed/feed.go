// Package feed carries texts from node to node over a bus that may lose, double and
// reorder its messages, and notices what was lost.
//
// A Node is one process's place on the bus. It has a Feed for each topic. What is
// published on a Feed is numbered, and each node says at intervals what number it has come
// to. A number that stays out is a Gap for the Listener: it cannot be told what was
// missed, only that something was.
//
// The texts are what the topic's Listener makes of them: the ids of keys that have changed,
// or orders about sessions.
//
// # Locks
//
// None is held across a call of the bus or of a Listener. A publisher's, and a gap detector's,
// are not held together with another, but for the Node's own, which comes after a publisher's.
// On a Stream: recordQueue.mu before Node.mu; reorder.mu before serial.mu.
package feed

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/shared"
)

// Listener takes what is heard of one topic. Its methods may be called from several
// goroutines at once. They return at once, and never panic.
type Listener interface {
	// Changed takes one text, perhaps not for the first time. What this node publishes is
	// heard before it goes to the bus, whatever becomes of it there.
	Changed(Change)

	// Gap says that texts may have been missed, or are being missed from now on.
	Gap(Gap)
}

// Change is one text, and what is known of the message that brought it.
type Change struct {
	ID        string    // the text, valid for as long as anybody keeps it
	Published time.Time // by the publisher's clock; zero where it does not say
	Trace     string    // the publisher's W3C traceparent; empty where it does not say
}

// Gap says what may have been missed.
type Gap struct {
	Reason Reason

	// Position is what Config.Position returned before anything was missed that this Gap
	// is about: what was begun at a greater one has missed nothing of it.
	Position uint64

	Missing uint64 // how many messages have not arrived, for Missing
	Joined  int    // how many publishers were heard for the first time, for Missing and Midway
	Err     error  // why, for Disconnected
}

// Reason is why there is a Gap.
type Reason uint8

const (
	// Connected: a broker has acknowledged a subscription. What was published before then
	// may have been missed.
	Connected Reason = iota + 1

	// Disconnected: what other nodes publish may be missed, until Connected.
	Disconnected

	// Missing: numbers have stayed out.
	Missing

	// Midway: a publisher was heard for the first time, which has published before.
	Midway
)

// Feed is one topic on the bus, of one Node.
type Feed struct {
	node     *Node
	topic    shared.EntityType
	listener atomic.Pointer[Listener] // nil where the node publishes only
	live     atomic.Bool              // subscribed on the bus
	spread   atomic.Bool              // every message goes to every broker
	publish  publisher
	gaps     gapDetector
	stream   *Stream // that the Feed is of, or nil; guarded by the Node's lock until Listen
}

// Topic returns the name under which the Feed is on the bus.
func (f *Feed) Topic() shared.EntityType { return f.topic }

// Listen has l hear the topic from now on. It may be called once. The error is the bus's,
// which could never accept the subscription.
func (f *Feed) Listen(l Listener) error {
	f.listener.Store(&l)
	if err := f.node.config.Bus.Subscribe(f.topic, listener{f}); err != nil {
		f.listener.Store(nil)
		return err
	}
	return nil
}

// Live reports whether the topic is subscribed on the bus, so that what others publish is
// heard.
func (f *Feed) Live() bool { return f.live.Load() }

// listens reports whether somebody hears what comes.
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

// changed has the node's own listener hear an id.
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
		return // heard when it was published
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
	position := l.node.config.Position() // what is begun from now on has missed nothing
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
