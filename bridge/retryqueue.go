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

// retryQueue is one entity type's views whose last fetch failed, waiting for their
// next attempt. How long each waits is EntityOptions.Retry's; see view.fail. When an outage
// ends they need not wait for their time.
type retryQueue struct {
	mu      sync.Mutex // guards what follows, and the slots of the views that wait here
	views   conflate.Queue[*view]
	release int       // how many of them the end of an outage still releases
	probed  time.Time // when one was last tried because of news
}

// add takes v in. The caller holds v's lock.
func (q *retryQueue) add(v *view) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.views.Put(&v.pending.failed, v)
}

// remove lets v go. The caller holds v's lock.
func (q *retryQueue) remove(v *view) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.views.Drop(&v.pending.failed)
}

// mayProbe reports whether it is time again to try one for news of it.
func (q *retryQueue) mayProbe() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Sub(q.probed) < probeInterval {
		return false
	}
	q.probed = now
	return true
}

// worked notes a fetch that worked after so many failures in a row, and returns
// the views to try now.
func (q *retryQueue) worked(failures uint64) (early []*view) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if failures >= outage {
		q.release = q.views.Len()
	}
	for len(early) < releasedBySuccess && q.release > 0 {
		_, v, ok := q.views.Pop()
		if !ok {
			q.release = 0
			break
		}
		q.release--
		early = append(early, v)
	}
	return early
}
