package bridge

import "sync/atomic"

const eventCount = int(eventRetried) + 1

var stateNames = [...]string{"idle", "queued", "fetching", "delivering", "backing_off", "removed"}

var eventNames = [eventCount]string{
	"changed", "subscribed", "looked_again", "refresh", "left", "unused",
	"begun", "answered", "handed_out", "rescoped", "failed", "retried",
}

var transitions [len(stateNames)][eventCount][len(stateNames)]atomic.Uint64

func init() {
	observed = func(from viewState, e event, to viewState) { transitions[from][e][to].Add(1) }
}

// Transitions returns what views were seen to do: "state event next", and how often.
func Transitions() map[string]uint64 {
	seen := make(map[string]uint64)
	for from := range transitions {
		for e := range transitions[from] {
			for to := range transitions[from][e] {
				if n := transitions[from][e][to].Load(); n > 0 {
					seen[stateNames[from]+" "+eventNames[e]+" "+stateNames[to]] = n
				}
			}
		}
	}
	return seen
}
