package bridge_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

// What these tests have the engine log and publish is searched for secrets: a text
// that it does show is found there.
func TestWhatIsWrittenIsSearched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, &membus.Broker{})
		fail := func(context.Context, shared.EntityKey, string) ([][]byte, error) { return nil, errors.New("broken") }
		n.register(t, fail, bridge.EntityOptions{})
		newScreen(n, "me").subscribe(t, shared.EntityKey{Entity: items, ID: canary.Decoy(canary.BridgeLogger)}, withSnapshot)
		n.notify(t, shared.EntityKey{Entity: items, ID: canary.Decoy(canary.Bus)})
		synctest.Wait()

		byDefault, err := bridge.New(bridge.Config{Bus: new(membus.Broker).NewNode()})
		if err != nil {
			t.Fatal(err)
		}
		defer byDefault.Close(t.Context())
		if err := byDefault.Register(shared.EntityType(canary.Decoy(canary.DefaultLogger)), fail, bridge.EntityOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}
