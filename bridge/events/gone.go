package events

import "time"

// passed is an event that is not in the memory, or not any more. The zero passed is none.
type passed struct {
	number    uint64
	publisher string
	arrived   time.Time
}

// gone is what is known of the events that are not in the memory: enough to say of each event
// whether one came after it.
type gone struct {
	newest passed
	other  passed // the newest of another publisher
}

func (g *gone) add(p passed) {
	switch {
	case p.publisher == g.newest.publisher:
		if p.number > g.newest.number {
			g.newest = p
		}
	case p.number > g.newest.number:
		g.newest, g.other = p, g.newest
	case p.number > g.other.number:
		g.other = p
	}
}

// hasAfter reports whether one came after an event, or shortly before it from another publisher.
func (g *gone) hasAfter(last *keptEvent) bool {
	if g.newest.number > last.number {
		return true
	}
	other := g.newest
	if other.publisher == last.publisher {
		other = g.other
	}
	return other.number > 0 && last.arrived.Sub(other.arrived) <= overlap
}
