package bridge_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"sync"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// transport is the Sink of one client that a program serves by means of its own.
type transport struct {
	mu    sync.Mutex
	queue bridge.Queue
	ready chan struct{} // of capacity 1: something waits
}

func (t *transport) Push(slot *bridge.Slot, u *bridge.Update) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue.Put(slot, u)
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

func (t *transport) Drop(slot *bridge.Slot) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.queue.Drop(slot)
}

// next returns what has waited longest.
func (t *transport) next() *bridge.Update {
	for {
		t.mu.Lock()
		_, u, ok := t.queue.Pop()
		t.mu.Unlock()
		if ok {
			return u
		}
		<-t.ready
	}
}

// A program with a transport of its own makes a client with a Sink.
func ExampleBridge_NewClient() {
	b, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close(context.Background())
	fetch := func(_ context.Context, key shared.EntityKey, secret string) ([][]byte, error) {
		return [][]byte{[]byte(key.ID + " for " + secret)}, nil
	}
	if err := b.Register("items", fetch, bridge.EntityOptions{}); err != nil {
		log.Fatal(err)
	}
	t := &transport{ready: make(chan struct{}, 1)}
	client := b.NewClient(t, bridge.ClientOptions{Secret: shared.NewSecret("ann")})
	defer client.Close()
	if err := client.Subscribe(shared.EntityKey{Entity: "items", ID: "100"}, bridge.SubscribeOptions{Snapshot: true}); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", t.next().Rows[0])
	// Output: 100 for ann
}
