package bridge

import (
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/conflate"
)

const (
	// outage is how many failures in a row mean that fetching is broken for the
	// entity type, and not for one key.
	outage = 3

	// releasedBySuccess is how many of those that wait are tried early for each
	// fetch that works after an outage: each may release as many again, so that a
	// database that has come back is asked for more as it keeps up.
	releasedBySuccess = 2

	// probeInterval is how often news of a key that is backing off is taken as an
	// occasion to try. Without news, and without an outage, each waits its time.
	probeInterval = 100 * time.Millisecond
)

// backlog is one entity type's views whose last fetch failed, waiting for their
// next attempt. When an outage ends they need not wait for their time.
type backlog struct {
	mu      sync.Mutex // taken after a view's lock
	views   conflate.Queue[*view]
	release int       // how many of them the end of an outage still releases
	probed  time.Time // when one was last tried because of news
}

// add takes v in. The caller holds v's lock.
func (b *backlog) add(v *view) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.views.Put(&v.errand.failed, v)
}

// remove lets v go. The caller holds v's lock.
func (b *backlog) remove(v *view) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.views.Drop(&v.errand.failed)
}

// mayProbe reports whether it is time again to try one for news of it.
func (b *backlog) mayProbe() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if now.Sub(b.probed) < probeInterval {
		return false
	}
	b.probed = now
	return true
}

// worked notes a fetch that worked after so many failures in a row, and returns
// the views to try now.
func (b *backlog) worked(failures uint64) (early []*view) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if failures >= outage {
		b.release = b.views.Len()
	}
	for len(early) < releasedBySuccess && b.release > 0 {
		_, v, ok := b.views.Pop()
		if !ok {
			b.release = 0
			break
		}
		b.release--
		early = append(early, v)
	}
	return early
}
