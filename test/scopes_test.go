package test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// tenants says in memory where each user belongs. They move from one to the next and
// never back. Its steps are the moves and the reads.
type tenants struct {
	mu    sync.Mutex
	step  int
	still bool           // nobody moves any more
	of    map[string]int // the tenant of each user
	until map[string]map[int]int
}

// tenantRow is one tenant's, as it was read.
type tenantRow struct {
	Tenant int `json:"tenant"`
	Read   int `json:"read"` // in which step
}

func (x *tenants) join(user string, tenant int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.of[user], x.until[user] = tenant, map[int]int{}
}

// move takes a user to the next tenant but for the last one, where it is one who moves.
func (x *tenants) move(user string, count int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.still || x.of[user] == count-1 {
		return
	}
	x.step++
	x.until[user][x.of[user]] = x.step
	x.of[user]++
}

func (x *tenants) scope(user string) string { return fmt.Sprint(x.row(user, 0).Tenant) }

// row is of the tenant where a user belongs now.
func (x *tenants) row(user string, step int) tenantRow {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.step += step
	return tenantRow{x.of[user], x.step}
}

// halt has nobody move any more, and reports whether anybody who had moved still could.
func (x *tenants) halt(count int) (moving bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.still = true
	for user, tenant := range x.of {
		moving = moving || len(x.until[user]) > 0 && tenant < count-1
	}
	return moving
}

// foreign reports whether a row is of a tenant that the user has not come to, or had left
// before it was read.
func (x *tenants) foreign(user string, r tenantRow) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	until, left := x.until[user][r.Tenant]
	return r.Tenant != x.of[user] && (!left || until < r.Read)
}

// Two nodes with tenants in memory, and users who move between them before, during and
// after the fetches that are made with their secrets: no frame that anybody reads is of a
// tenant that is not theirs.
func TestUsersWhoMoveToOtherTenantsGiveNobodysRowsAway(t *testing.T) {
	t.Parallel()
	const (
		count, residents, movers = 60, 1, 30 // so many tenants that users still move at the end
		frames                   = 20_000
	)
	nsqd := nsqdtest.Start(t)
	who := &tenants{of: map[string]int{}, until: map[string]map[int]int{}}
	moves := map[string]bool{}
	var fetches atomic.Int64
	handler := func(_ context.Context, _ shared.EntityKey, user string) (tenantRow, error) {
		n := fetches.Add(1)
		if moves[user] && n%4 == 0 {
			who.move(user, count)
		}
		r := who.row(user, 1)
		if moves[user] && n%4 == 2 {
			who.move(user, count)
		}
		return r, nil
	}
	users := map[string]int{}
	for i := range movers {
		user := fmt.Sprint("mover ", i)
		users[user], moves[mark+user] = i%2, true
		who.join(mark+user, 0)
	}
	for i := range count * residents {
		user := fmt.Sprint("resident ", i)
		users[user] = i % 2
		who.join(mark+user, i/2%count)
	}
	var nodes []*node
	for range 2 {
		n := &node{nodetest.Start(t, es.Config{NSQAddr: nsqd.Addr})}
		if err := es.Register(n.EntitySync, items, handler, es.WithScope(who.scope)); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	untilReady(t, nodes...)

	var read, foreign atomic.Int64
	var last sync.Map // of each user, the newest row
	var reading sync.WaitGroup
	var all []*conn
	defer func() {
		for _, c := range all {
			c.Close()
		}
		reading.Wait()
	}()
	for _, kind := range []string{"mover ", "resident "} { // who moves is first in its views
		for i := range max(movers, count*residents) {
			user := fmt.Sprint(kind, i)
			home, known := users[user]
			if !known {
				continue
			}
			c := nodes[home].dial(t, user)
			c.Send(`{"action":"subscribe","body":{"entity":"items","id":"100","snapshot":true}}`)
			reading.Go(func() {
				for {
					_, message, err := c.ReadMessage()
					if err != nil {
						return // the test is over
					}
					var r tenantRow
					if err := json.Unmarshal(message, &r); err != nil {
						t.Errorf("%q: %v", message, err)
						return
					}
					read.Add(1)
					if who.foreign(mark+user, r) {
						foreign.Add(1)
					}
					last.Store(user, r)
				}
			})
			all = append(all, c)
		}
	}
	for round := 0; read.Load() < frames; round++ {
		before := read.Load()
		nodes[round%2].notify(t, "100")
		testkit.Until(t, "somebody has read a row", func() bool { return read.Load() > before })
		if foreign.Load() > 0 {
			t.Fatalf("%d of %d frames are of tenants of others", foreign.Load(), read.Load())
		}
	}
	if !who.halt(count) {
		t.Error("nobody could move any more, long before the end perhaps")
	}
	nodes[0].notify(t, "100")
	for user := range users {
		testkit.Until(t, "everybody has the row of their tenant", func() bool {
			r, any := last.Load(user)
			return any && r.(tenantRow).Tenant == who.row(mark+user, 0).Tenant
		})
	}
	if foreign.Load() > 0 {
		t.Errorf("%d of %d frames are of tenants of others", foreign.Load(), read.Load())
	}
	if got := who.row(mark+"mover 0", 0).Tenant; got == 0 {
		t.Error("nobody has moved")
	}
}
