package echo

// State is what a subscription to a topic is on one broker.
type State int

const (
	Gone   State = iota // not subscribed
	Live                // subscribed, and not known to be silent
	Silent              // acknowledged, and nothing comes back
)

// Reach is by which brokers a topic is heard. The zero value is by none.
type Reach[B comparable] struct {
	states map[B]State // but for Gone
	silent int
}

// Heard reports whether what others publish is heard: on some broker, and on all that
// acknowledge what is published. A publisher does not publish to a broker that is gone.
func (r *Reach[B]) Heard() bool { return len(r.states) > r.silent && r.silent == 0 }

// State returns what the subscription is on a broker.
func (r *Reach[B]) State(b B) State { return r.states[b] }

// Set takes what the subscription has become on a broker. It returns whether the
// topic is live, and something may have been missed, and whether it is lost.
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
	// Not only the first broker: what another node published on one while it was not
	// heard was missed.
	return heard && (now == Live || !before), before && !heard
}
