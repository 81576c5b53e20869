package bridge

import (
	"math/rand/v2"
	"time"
)

// refresh fetches every view again once a period, for writes that nobody
// announces: one part of the views after the other, so that the database sees a
// steady trickle. Nodes begin with different parts.
func (e *entity) refresh() {
	b := e.bridge
	ticker := time.NewTicker(e.options.Refresh / shardCount)
	defer ticker.Stop()
	for part := rand.IntN(shardCount); ; part = (part + 1) % shardCount { //nolint:gosec // where to begin is no secret
		select {
		case <-ticker.C:
			n := e.index.postPart(part, posted(causeRefresh))
			b.counts.refreshed.Add(uint64(n)) //nolint:gosec // a count
		case <-b.ctx.Done():
			return
		}
	}
}
