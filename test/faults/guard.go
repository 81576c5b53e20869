package faults

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// guard is what the application around a node knows of its users' secrets.
type guard struct {
	life time.Duration // of those that end

	mu        sync.Mutex
	withdrawn map[string]bool
	said      map[string]time.Time // when each of those that end was said first
}

// verify is what Entity Sync asks about a secret that a client says.
func (g *guard) verify(_ context.Context, secret string) (expires time.Time, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	identity := identityOf(secret)
	if g.withdrawn[identity] {
		return time.Time{}, shared.ErrUnauthenticated
	}
	if !strings.HasPrefix(identity, mortal) {
		return time.Time{}, nil
	}
	if g.said == nil {
		g.said = make(map[string]time.Time)
	}
	if _, known := g.said[identity]; !known {
		g.said[identity] = time.Now()
	}
	return g.said[identity].Add(g.life), nil
}

// mortal is how the names of users begin whose secrets expire.
const mortal = "mortal"

func (g *guard) withdraw(_ context.Context, identity string) (struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.withdrawn == nil {
		g.withdrawn = make(map[string]bool)
	}
	g.withdrawn[identity] = true
	return struct{}{}, nil
}

func (g *guard) refuses(identity string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.withdrawn[identity]
}

// orderRequest asks for the end of an identity's sessions on all nodes.
type orderRequest struct {
	Identity string
	Anew     bool // they are to connect anew: Disconnect, not Revoke
}

func (p *application) order(ctx context.Context, q orderRequest) (struct{}, error) {
	if q.Anew {
		return struct{}{}, p.sync.Disconnect(ctx, secretOf(q.Identity))
	}
	return struct{}{}, p.sync.Revoke(ctx, secretOf(q.Identity))
}
