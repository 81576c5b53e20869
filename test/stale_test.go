package test

import (
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/client"
)

// A client on the v2 wire knows when nsqd is gone, dead or frozen, and when what it
// shows is right again.
func TestClientsAreToldWhileNSQIsGone(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct {
		begin, end func(*nsqdtest.Daemon, testing.TB)
	}{
		"killed": {(*nsqdtest.Daemon).Kill, (*nsqdtest.Daemon).Start},
		"frozen": {(*nsqdtest.Daemon).Freeze, (*nsqdtest.Daemon).Thaw},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nsqd := nsqdtest.Start(t)
			var db database
			n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr})
			untilReady(t, n)
			rev := db.write("100")
			s := watchOn(t, n.URL, "me").shows(t, "100")
			s.until(client.Live, rev)
			begin := time.Now()
			fault.begin(nsqd, t)
			s.until(client.Stale, rev)
			t.Logf("told after %v", time.Since(begin).Round(time.Millisecond))
			told := len(s.seen)
			then := db.write("100")
			fault.end(nsqd, t)
			s.until(client.Live, then) // nobody announced it: the node looked
			for _, u := range s.seen[told:] {
				if u.State == client.Live && revOf(u) == rev {
					t.Error("what was missed was said to be fresh")
				}
			}
		})
	}
}
