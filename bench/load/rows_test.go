package load

import (
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bench/workload"
)

// Two clients, with two keys of which they share one: what is missing is counted,
// and what must not come is an error.
func TestRows(t *testing.T) {
	r := newRows(workload.Layout{Clients: 2, Each: 2, Keys: 3})
	now := time.Now().UnixNano()
	get := func(client int, rows ...workload.Row) error {
		var message []byte
		for _, row := range rows {
			message = row.Append(message)
		}
		return r.receive(client, message, now)
	}
	for _, key := range []int{0, 2, 2} {
		r.changed(key)
	}
	must := func(want int, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if r.behind != want {
			t.Errorf("%d rows are to come, want %d", r.behind, want)
		}
	}
	r.expect()
	must(3, nil)
	must(2, get(0, workload.Row{Key: 0, Revision: 1, At: now - 3e6}))
	must(2, get(0, workload.Row{Key: 0, Revision: 1, At: now - 5e6})) // again
	must(2, get(1, workload.Row{Key: 2, Revision: 1, At: now}))       // not the newest
	must(0, get(1, workload.Row{Key: 2, Revision: 2, At: now}, workload.Row{Key: 0, Revision: 1, At: now}))
	if r.deliveries != 5 || r.lastDelay != 0 || quantile(r.delays, 1) != 5*time.Millisecond || quantile(r.delays, 0.5) != 0 {
		t.Errorf("%d rows came, with delays %v", r.deliveries, r.delays)
	}
	for what, row := range map[string]workload.Row{
		"goes back":       {Key: 2, Revision: 1},
		"was changed":     {Key: 0, Revision: 2},
		"does not watch":  {Key: 1, Revision: 0},
		"row of viewer 1": {Key: 0, Revision: 1, Viewer: 1},
	} {
		if err := get(1, row); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want an error that says %q", row, err, what)
		}
	}
	r.changed(0)
	r.stopped[1] = true
	if r.expect(); r.behind != 1 {
		t.Errorf("%d rows are to come, want that of the client that reads", r.behind)
	}
}
