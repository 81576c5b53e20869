package load

import (
	"fmt"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/bench/workload"
)

// rows knows which rows each client has got, and how long they took.
type rows struct {
	layout  workload.Layout
	newest  []int  // revision of each key: how often it was changed
	have    []int  // revision that each client has of each of its keys
	stopped []bool // clients that read no more, of which nothing is expected

	behind int // rows that are still to come, since expect

	deliveries int             // rows that came since begin
	delays     []time.Duration // of each of them
	last       int64           // when the last one came, in nanoseconds since 1970
	lastDelay  time.Duration
}

func newRows(l workload.Layout) rows {
	return rows{layout: l, newest: make([]int, l.Keys), have: make([]int, l.Subscriptions()), stopped: make([]bool, l.Clients)}
}

// begin forgets what came before.
func (r *rows) begin() {
	r.deliveries, r.delays, r.last, r.lastDelay = 0, r.delays[:0], 0, 0
}

// changed notes that there is a newer row of a key.
func (r *rows) changed(key int) { r.newest[key]++ }

// expect counts the newest rows that have not come.
func (r *rows) expect() {
	r.behind = 0
	for c, stopped := range r.stopped {
		if stopped {
			continue
		}
		for n := range r.layout.Each {
			if r.have[c*r.layout.Each+n] < r.newest[r.layout.Key(c, n)] {
				r.behind++
			}
		}
	}
}

// receive takes the rows in a message.
func (r *rows) receive(client int, message []byte, now int64) error {
	for {
		row, rest, ok, err := workload.Next(message)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		if err := r.take(client, row, now); err != nil {
			return err
		}
		message = rest
	}
}

func (r *rows) take(client int, row workload.Row, now int64) error {
	if row.Key >= r.layout.Keys {
		return nil // one of those that never change
	}
	if row.Viewer != 0 && row.Viewer != client+1 {
		return fmt.Errorf("the row of viewer %d", row.Viewer)
	}
	slot, err := r.layout.Slot(client, row.Key)
	if err != nil {
		return err
	}
	have := &r.have[client*r.layout.Each+slot]
	newest := r.newest[row.Key]
	switch {
	case row.Revision < *have:
		return fmt.Errorf("key %d goes back from revision %d to %d", row.Key, *have, row.Revision)
	case row.Revision > newest:
		return fmt.Errorf("key %d has revision %d, and was changed %d times", row.Key, row.Revision, newest)
	case row.Revision == newest && *have < newest:
		r.behind--
	}
	*have = row.Revision
	r.deliveries++
	if row.Revision > 0 { // else it has not changed yet
		r.lastDelay = time.Duration(now - row.At)
		r.delays = append(r.delays, r.lastDelay)
	}
	r.last = now
	return nil
}

// quantile returns the delay that so large a part of the rows did not exceed. It
// leaves the delays sorted.
func quantile(delays []time.Duration, q float64) time.Duration {
	if len(delays) == 0 {
		return 0
	}
	slices.Sort(delays)
	return delays[min(int(q*float64(len(delays))), len(delays)-1)]
}
