// Package bus is the contract between the engine and what carries its messages from
// node to node.
package bus

import (
	"context"
	"errors"

	"github.com/entity-sync/entity-sync/shared"
)

// Bus carries notifications between nodes. It may lose, double and reorder
// them: the engine only ever takes one to mean "look again". What it must not
// do is lose them silently, see Listener.
//
// Package bustest, beside this one, holds the tests that every Bus passes.
type Bus interface {
	// Publish hands body to every node that subscribed to entity, this one
	// included. It returns nil once a broker has acknowledged it, and an error
	// no later than ctx ends; the body may have got through all the same. ctx may
	// be that of one call of Notify: when it ends no other publication fails. The
	// caller does not change body afterwards.
	Publish(ctx context.Context, entity shared.EntityType, body []byte) error

	// Subscribe makes l hear entity from now on. It does not wait for a broker:
	// one that is absent is connected to when it appears. It returns an error
	// only where no broker could ever accept the subscription.
	Subscribe(entity shared.EntityType, l Listener) error

	// Close leaves the bus. When it has returned nil, no Listener is called
	// any more and no goroutine of the bus is left.
	Close(ctx context.Context) error
}

// ErrTooLarge is for a Bus to return, wrapped, when a broker takes no body of that size.
// The keys in it are then published in several.
var ErrTooLarge = errors.New("the message is too large for the broker")

// Spreader is a Bus of several brokers, of which a node may miss one without knowing
// what is published there.
type Spreader interface {
	Bus

	// Spread is Publish, and hands body to each other broker as well. It does not wait
	// for those, which may not be there; Close does, for a moment. Listeners take the
	// same body from several brokers.
	Spread(ctx context.Context, entity shared.EntityType, body []byte) error
}

// Preparer is a Bus that has something to do, or to check, before it can publish of an
// entity type that this node does not subscribe to.
type Preparer interface {
	Bus

	// Prepare does so. It does not wait for a broker, and returns an error only where
	// no broker could ever accept what is published.
	Prepare(entity shared.EntityType) error
}

// Blocking is a Bus whose Publish may take longer than its context allows, because what
// is below it may know no contexts. Callers publish through one that blocks from goroutines
// of their own.
type Blocking interface {
	Bus

	// Blocks reports whether that is so. It always returns the same.
	Blocks() bool
}

// Surveyor is a Bus that knows which of its brokers it hears.
type Surveyor interface {
	Bus

	// Survey returns what each broker is to this node now.
	Survey() []BrokerStats
}

// BrokerStats is what one of a bus's brokers is to a node.
type BrokerStats struct {
	Addr   string
	Live   int // topics that are subscribed there, and heard
	Silent int // topics of which it acknowledges messages and does not hand them on
	Gone   int // topics that are not subscribed there, because it cannot be reached or refuses
}

// Refuser is a Bus that hands on the messages of trusted publishers only.
type Refuser interface {
	Bus

	// Refused returns how many messages it has not handed on since the start.
	Refused() uint64
}

// Listener hears one entity type. A Bus calls it from goroutines of its own, at
// times from several at once. Its methods return at once and never panic.
type Listener interface {
	// Message takes one published body, valid until Message returns.
	Message(body []byte)

	// Live says that what is published from now on will be heard, and that
	// something published earlier may have been missed. A Bus calls it after a
	// broker acknowledged a subscription, the first one included; a Bus of
	// several brokers after each of them did.
	Live()

	// Lost says that from now on what others publish may not be heard until Live is
	// called: no broker is left, or one acknowledges messages and does not hand them on.
	Lost(err error)
}
