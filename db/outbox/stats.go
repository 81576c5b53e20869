package outbox

import "time"

// Stats is a snapshot of a Relay's figures. Figures "since the start" only grow, and are of
// this relay alone. Figures "now" are of the outbox, as it was up to a second ago, or when the
// database last answered.
type Stats struct {
	Published uint64 // rows announced and removed, since the start
	Bad       uint64 // rows removed that held no valid key, since the start
	Failed    uint64 // rounds in which the database or an announcement failed, since the start
	Failing   uint64 // such rounds since everything last worked

	Waiting int           // rows of this node's entity types now; of each type it counts 10,000 at most
	Oldest  time.Duration // the age of the oldest of those rows now, by the database's clock
	Foreign int           // rows now of entity types that this node does not know, counted likewise
}

// Stats returns the figures as they are now. On a nil Relay they are zero.
func (r *Relay) Stats() Stats {
	if r == nil {
		return Stats{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}
