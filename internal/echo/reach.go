package echo

// State is the state of a subscription on one broker.
type State int

const (
	Gone   State = iota // not subscribed
	Live                // subscribed, and not known to be silent
	Silent              // messages are acknowledged, and do not come back
)

// Reach tells on which brokers a topic is heard. The zero value is for none.
type Reach[B comparable] struct {
	states map[B]State // without those that are Gone
	silent int
}

// Heard reports whether the messages of other nodes are heard: some broker is live, and none
// is silent. A broker that is gone does not count, because nodes do not publish there.
func (r *Reach[B]) Heard() bool { return len(r.states) > r.silent && r.silent == 0 }

// State returns the subscription's state on a broker.
func (r *Reach[B]) State(b B) State { return r.states[b] }

// Set sets the subscription's state on a broker. live says that the topic is heard, and may
// have missed messages before; lost says that it is not heard any more.
func (r *Reach[B]) Set(b B, now State) (live, lost bool) {
	before, was := r.Heard(), r.states[b]
	if was == now {
		return false, false
	}
	if r.states == nil {
		r.states = make(map[B]State)
	}
	r.states[b] = now
	if was == Silent {
		r.silent--
	}
	switch now {
	case Gone:
		delete(r.states, b)
	case Silent:
		r.silent++
	}
	heard := r.Heard()
	// Each broker that becomes live counts, not only the first: messages that other nodes
	// published on it before were missed.
	return heard && (now == Live || !before), before && !heard
}
