package nsqbus

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/shared"
)

// BuildPublisher builds NSQ publishers of the classic function type, for
// bridge.BuildBridge. For each address BuildPublisher and BuildSubscriber share one Bus,
// which Shutdown closes. The type of a publisher has no error, so a publisher reports a
// failure by panicking; a Bridge turns the panic into an error of NotifyAllOfChange.
func BuildPublisher(addr string) shared.EntityHandler {
	return func(entity shared.EntityType) shared.ByteHandler {
		return func(body []byte) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := classicBus(addr).Publish(ctx, entity, body); err != nil {
				panic(err)
			}
		}
	}
}

// BuildSubscriber builds NSQ subscribers of the classic function type. A subscriber
// panics if addr is not an address; a Bridge turns the panic into an error of
// RegisterEntityForSync.
func BuildSubscriber(addr string) shared.EntityByteHandler {
	return func(entity shared.EntityType, handler shared.ByteHandler) {
		if err := classicBus(addr).Subscribe(entity, functionListener(handler)); err != nil {
			panic(err)
		}
	}
}

var (
	_ shared.AddressableEntityHandler     = BuildPublisher
	_ shared.AddressableEntityByteHandler = BuildSubscriber
)

var classic struct {
	mu    sync.Mutex
	buses map[string]*Bus
}

func classicBus(addr string) *Bus {
	classic.mu.Lock()
	defer classic.mu.Unlock()
	if b := classic.buses[addr]; b != nil {
		return b
	}
	b, err := New(Config{Addrs: []string{addr}})
	if err != nil {
		panic(err)
	}
	if classic.buses == nil {
		classic.buses = make(map[string]*Bus)
	}
	classic.buses[addr] = b
	return b
}

// Shutdown closes every Bus that BuildPublisher and BuildSubscriber opened.
func Shutdown(ctx context.Context) error {
	classic.mu.Lock()
	buses := classic.buses
	classic.buses = nil
	classic.mu.Unlock()
	var errs []error
	for _, b := range buses {
		errs = append(errs, b.Close(ctx))
	}
	return errors.Join(errs...)
}

// functionListener passes messages to a function. At first, and after a lost
// connection, it passes an empty one, which NSQ never delivers: a Bridge takes an
// empty message to mean that messages may have been missed.
type functionListener shared.ByteHandler

var _ bus.Listener = functionListener(nil)

func (f functionListener) Message(body []byte) { f(bytes.Clone(body)) } // f may keep it
func (f functionListener) Live()               { f(nil) }
func (f functionListener) Lost(error)          {}
