// Package bus is the contract between the engine and the message bus that connects
// the nodes.
package bus

import (
	"context"
	"errors"

	"github.com/entity-sync/entity-sync/shared"
)

// Bus carries notifications between nodes. It may lose, double and reorder them,
// because the engine takes a notification to mean no more than "fetch again". A loss
// must not be silent: see Listener.
//
// Package bustest, beside this one, holds the tests that every Bus passes.
type Bus interface {
	// Publish hands body to every node that subscribed to entity, this one
	// included. It returns nil once a broker has acknowledged body, and an error
	// no later than ctx ends. After an error the nodes may have got body all the
	// same. ctx may be that of one call of Notify: when it ends, no other
	// publication fails. The caller does not change body afterwards.
	Publish(ctx context.Context, entity shared.EntityType, body []byte) error

	// Subscribe makes l hear entity from now on. It does not wait for a broker:
	// the Bus connects to an absent one when that appears. It returns an error only
	// if no broker could ever accept the subscription.
	Subscribe(entity shared.EntityType, l Listener) error

	// Close leaves the bus. When it has returned nil, no Listener is called
	// any more and no goroutine of the bus is left.
	Close(ctx context.Context) error
}

// ErrTooLarge is for a Bus to return, wrapped, when a broker refuses a message for its
// size. The engine then publishes the message's keys in several messages.
var ErrTooLarge = errors.New("the message is too large for the broker")

// Spreader is a Bus of several brokers. A node may be cut off from one of them, and
// not know that it misses messages there.
type Spreader interface {
	Bus

	// Spread publishes body as Publish does, and on each other broker as well. It does
	// not wait for the other brokers, which may be down; Close does, for a moment.
	// A listener may get the same body from several brokers.
	Spread(ctx context.Context, entity shared.EntityType, body []byte) error
}

// Preparer is a Bus that must do or check something before it can publish messages of
// an entity type to which this node does not subscribe.
type Preparer interface {
	Bus

	// Prepare prepares publishing messages of entity. It does not wait for a broker.
	// It returns an error only if no broker could ever accept those messages.
	Prepare(entity shared.EntityType) error
}

// Blocking is a Bus whose Publish may outlast its context, because the client library
// below it may not take one. Callers call such a Publish in goroutines of their own.
type Blocking interface {
	Bus

	// Blocks reports whether Publish may outlast its context. It always returns the same.
	Blocks() bool
}

// Surveyor is a Bus that knows which of its brokers it hears.
type Surveyor interface {
	Bus

	// Survey returns the state of each broker now.
	Survey() []BrokerStats
}

// BrokerStats is the state of one broker, as one node sees it.
type BrokerStats struct {
	Addr   string
	Live   int // topics that are subscribed there, and heard
	Silent int // topics whose messages the broker acknowledges and does not deliver
	Gone   int // topics that are not subscribed there: the broker cannot be reached, or refuses
}

// Refuser is a Bus that delivers the messages of trusted publishers only.
type Refuser interface {
	Bus

	// Refused returns how many messages the Bus has refused since the start.
	Refused() uint64
}

// Listener hears one entity type. A Bus calls it from goroutines of its own, at
// times from several at once. Its methods return at once and never panic.
type Listener interface {
	// Message takes one published body, valid until Message returns.
	Message(body []byte)

	// Live says that from now on every published message will be heard, and that an
	// earlier one may have been missed. A Bus calls it after a broker has
	// acknowledged a subscription, the first one included; a Bus of several brokers
	// calls it after each of them did.
	Live()

	// Lost says that from now on, until Live is called, messages of other nodes may be
	// missed: no broker is left, or one acknowledges messages and does not deliver them.
	Lost(err error)
}
