// Package sealed authenticates the messages on a bus, whatever bus that is: a node
// believes only messages that were published with a key that the nodes share.
//
// Each message carries an HMAC-SHA256, which is checked before this package, or the
// Bridge, reads anything in the message: keys that have changed, beats and revocations
// alike. A message without an HMAC, or with a wrong one, is counted and ignored. The bus
// below may read a message's entity type first, as package nsqbus does on a shared topic.
// A message of an entity type that is not subscribed to is not counted.
//
// A seal does not prevent anybody from reading what is on the bus, from keeping messages
// from other nodes, or from publishing an earlier message again. A change that is announced
// again costs a fetch. A revocation that is heard again does nothing as long as the node
// remembers the first. A restarted node remembers none, and ends its sessions of that secret.
//
// The echoes with which package nsqbus asks whether a subscription is heard carry no seal.
// Each echo has a random text that only its connection knows. Other nodes ignore the echo,
// and from its own the node learns only that its subscription works.
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

// MinKeyBytes is the fewest bytes that a key may have. A key should have 32 random bytes.
const MinKeyBytes = 16

// Config configures a Bus.
type Config struct {
	// Keys are secrets that all nodes share. The first seals the messages that this node
	// publishes, and a message that was sealed with any of them is accepted. To change
	// the key of running nodes, add the new key as the second on each node, then make it
	// the first on each, then remove the old one.
	Keys [][]byte

	// Logger gets what an operator should know. Nil means slog.Default().
	Logger *slog.Logger
}

// Bus seals the messages that it publishes on another bus, and opens those that it hears.
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

// lineEvery is how often at most a log line says that messages are refused: an attacker
// may publish any number of them.
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

// listener passes on the messages that were sealed with one of the keys.
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

// bodies holds buffers for opened messages. A message is valid until Message returns.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxRoom is the size of the largest buffer that goes back to the pool.
const maxRoom = 64 << 10

func (b *Bus) refuse(entity shared.EntityType, err error) {
	b.refused.Add(1)
	if n, say := b.lines.Again(time.Now()); say {
		b.log.Warn("ignoring a message that was sealed with no key of this node; another node may have another BusKey, or none",
			slog.String("entity", string(entity)), slog.Uint64("since_the_last_line", n), slog.Any("error", err))
	}
}

// Seal returns body, a JSON object, with its seal. It is for programs that publish on the
// bus and are no nodes.
func Seal(secret, body []byte) ([]byte, error) {
	return newKey(secret).seal(body)
}
