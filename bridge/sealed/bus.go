// Package sealed has nodes believe of what comes over a bus only what was published with
// a key that they share, whatever bus it is.
//
// Each body carries an HMAC-SHA256, which is checked before this package, or the Bridge,
// reads anything in the body: keys that have changed, beats, and orders about sessions alike.
// A body without an HMAC, or with a wrong one, is counted and does nothing. A bus below may
// read a body's entity type first, as package nsqbus does on a shared topic. A body of an
// entity type that is not subscribed to is not counted.
//
// What a seal does not keep anybody from: to hear what is on the bus, to keep it from
// others, and to publish again what was published before. A change that is announced again
// costs a fetch. An order about sessions that is heard again does nothing as long as the
// node remembers it: a node that has been started anew since remembers none, and ends the
// sessions of that secret that it has. The echoes with which package nsqbus asks whether a
// subscription is heard carry no seal. Each has a random text of its connection's own, it
// says nothing to other nodes, and the node that hears it learns only that its subscription
// brings something.
package sealed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// MinKeyBytes is the fewest bytes that a key may have. It should have 32 that are random.
const MinKeyBytes = 16

// Config is what a Bus is made of.
type Config struct {
	// Keys are the keys, each known to all nodes and to nobody else. The first seals what
	// is published, and whatever was sealed with one of them is believed. To change the
	// key of nodes that run: first all know the new one as their second, then as their
	// first, then alone.
	Keys [][]byte

	// Logger gets what an operator should know. Nil means slog.Default().
	Logger *slog.Logger
}

// Bus seals what is published on another bus, and opens what is heard.
type Bus struct {
	bus     bus.Bus
	keys    []*key
	log     *slog.Logger
	refused atomic.Uint64
	lines   sparing.Period
}

var (
	_ bus.Preparer = (*Bus)(nil)
	_ bus.Spreader = (*Bus)(nil)
	_ bus.Surveyor = (*Bus)(nil)
	_ bus.Refuser  = (*Bus)(nil)
	_ bus.Blocking = (*Bus)(nil)
)

// New returns a bus on bus, which it owns from then on and closes.
func New(bus bus.Bus, c Config) (*Bus, error) {
	if bus == nil {
		return nil, errors.New("sealed: the bus is nil")
	}
	if len(c.Keys) == 0 {
		return nil, field.In("sealed.Config", field.Errorf("Keys", "is empty"))
	}
	b := &Bus{bus: bus, log: c.Logger, lines: sparing.Period{Every: lineEvery}}
	if b.log == nil {
		b.log = slog.Default()
	}
	for i, secret := range c.Keys {
		if len(secret) < MinKeyBytes {
			err := field.Errorf("Keys", "key %d of %d has %d bytes, want %d at least, and better 32 random ones", i+1, len(c.Keys), len(secret), MinKeyBytes)
			return nil, field.In("sealed.Config", err)
		}
		b.keys = append(b.keys, newKey(secret))
	}
	return b, nil
}

// lineEvery is how often a line says that messages are refused. A publisher decides how
// many those are.
const lineEvery = time.Minute

// Publish implements bus.Bus. body is a JSON object.
func (b *Bus) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	body, err := b.keys[0].seal(body)
	if err != nil {
		return err
	}
	return b.bus.Publish(ctx, entity, body)
}

// Spread implements bus.Spreader, where the bus below does.
func (b *Bus) Spread(ctx context.Context, entity shared.EntityType, body []byte) error {
	below, ok := b.bus.(bus.Spreader)
	if !ok {
		return b.Publish(ctx, entity, body)
	}
	body, err := b.keys[0].seal(body)
	if err != nil {
		return err
	}
	return below.Spread(ctx, entity, body)
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(entity shared.EntityType, l bus.Listener) error {
	return b.bus.Subscribe(entity, &listener{Listener: l, bus: b, entity: entity})
}

// Prepare implements bus.Preparer, where the bus below does.
func (b *Bus) Prepare(entity shared.EntityType) error {
	if below, ok := b.bus.(bus.Preparer); ok {
		return below.Prepare(entity)
	}
	return nil
}

// Blocks implements bus.Blocking.
func (b *Bus) Blocks() bool {
	below, ok := b.bus.(bus.Blocking)
	return ok && below.Blocks()
}

// Survey implements bus.Surveyor, where the bus below does.
func (b *Bus) Survey() []bus.BrokerStats {
	if below, ok := b.bus.(bus.Surveyor); ok {
		return below.Survey()
	}
	return nil
}

// Refused implements bus.Refuser.
func (b *Bus) Refused() uint64 { return b.refused.Load() }

// Close implements bus.Bus.
func (b *Bus) Close(ctx context.Context) error { return b.bus.Close(ctx) }

// listener hears what was sealed with a key.
type listener struct {
	bus.Listener
	bus    *Bus
	entity shared.EntityType
}

// Message implements bus.Listener.
func (l *listener) Message(sealed []byte) {
	body, err := open(sealed, l.bus.keys)
	if err != nil {
		l.bus.refuse(l.entity, err)
		return
	}
	room := bodies.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	defer bodies.Put(room)
	*room = append(append((*room)[:0], body...), '}') // sealed is not ours to change
	l.Listener.Message(*room)
	if cap(*room) > maxRoom {
		*room = nil
	}
}

// bodies is room for what was opened, which is valid until Message returns.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxRoom is the most that is kept for the next body.
const maxRoom = 64 << 10

func (b *Bus) refuse(entity shared.EntityType, err error) {
	b.refused.Add(1)
	if n, say := b.lines.Again(time.Now()); say {
		b.log.Warn("ignoring what was published without a key of this node's; another node may have another BusKey, or none",
			slog.String("entity", string(entity)), slog.Uint64("since_the_last_line", n), slog.Any("error", err))
	}
}

// Seal returns body, a JSON object, as a program that is no node publishes it on a bus
// whose nodes have the key.
func Seal(secret, body []byte) ([]byte, error) {
	return newKey(secret).seal(body)
}
