package schema

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// refusals are secrets whose clients the application lets do nothing, and how it refuses them.
var refusals = map[string]error{
	"forbidden": shared.ErrForbidden, "unauthenticated": shared.ErrUnauthenticated, "unavailable": errors.New("the application is ill"),
}

// node is a real node whose bus can be taken away.
type node struct {
	*nodetest.Node
	bus membus.Broker
}

// open is a configuration under which the application refuses the secrets of refusals what they
// ask for, and itself the secrets that are named after those with "no".
func open() es.Config {
	return es.Config{
		Authorize: func(_ context.Context, a shared.AccessRequest) error { return refusals[a.Secret.Reveal()] },
		VerifySecret: func(_ context.Context, secret string) (expires time.Time, err error) {
			if secret == "short" {
				return time.Now().Add(2 * time.Second), nil
			}
			return time.Time{}, refusals[strings.TrimPrefix(secret, "no ")]
		},
		OnMessage: func(s web.Session, message []byte) { _ = s.Send([]byte(`{"heard":true}`)) },
		Web:       web.Config{MaxMessageBytes: 64 << 10, MaxQueuedEvents: 2},
	}
}

// start starts a node with items and two channels. An item shows its id, the item "none" has no
// row, and nobody may see the item "hidden".
func start(t *testing.T, c es.Config) *node {
	t.Helper()
	n := new(node)
	c.Bus = n.bus.NewNode()
	n.Node = nodetest.Start(t, c)
	fetch := func(_ context.Context, key shared.EntityKey, _ string) (map[string]string, error) {
		switch key.ID {
		case "none":
			return nil, shared.ErrNotFound
		case "hidden":
			return nil, shared.ErrForbidden
		}
		return map[string]string{"id": key.ID}, nil
	}
	err := errors.Join(
		es.Register(n.EntitySync, "items", fetch),
		es.RegisterChannel(n.EntitySync, "news", es.ClientsPublish(), es.Keep(10, time.Hour)),
		es.RegisterChannel(n.EntitySync, "silent", es.Public()),
	)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
