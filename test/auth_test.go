package test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// authd is an authentication server of nsqd's.
type authd struct {
	*httptest.Server
	away   atomic.Int64 // for so many questions more it does not answer as one
	denies atomic.Bool  // it allows to subscribe alone
}

func startAuthd(t *testing.T) *authd {
	a := new(authd)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if a.away.Add(-1) >= 0 {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		may := []string{"subscribe", "publish"}
		if a.denies.Load() {
			may = may[:1]
		}
		json.NewEncoder(w).Encode(map[string]any{"ttl": 1, "identity": "node", "authorizations": []any{
			map[string]any{"topic": ".*", "channels": []string{".*"}, "permissions": may},
		}})
	}))
	t.Cleanup(a.Close)
	return a
}

// nsqSecret is none that is searched for: nsqd logs the question that it could not ask.
const nsqSecret = "what nodes say to nsqd"

func (a *authd) addr() string { return strings.TrimPrefix(a.URL, "http://") }

// ttl is when nsqd asks again: what it knows is a second old then.
const ttl = 1100 * time.Millisecond

// Where nsqd could not ask its authentication server, it is tried again: the server may
// be away for a moment. That it allows nothing is an answer.
func TestAnAuthenticationServerThatIsAwayForAMoment(t *testing.T) {
	t.Parallel()
	a := startAuthd(t)
	nsqd := nsqdtest.StartWith(t, nsqdtest.Options{AuthAddrs: []string{a.addr()}})
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{AuthSecret: nsqSecret}})
	untilReady(t, n)
	n.notify(t, "100")
	var err error
	met := func() bool { return a.away.Load() < 0 }
	for failed := 0; ; time.Sleep(100 * time.Millisecond) { // until nsqd asks: an echo may have had it ask before
		a.away.Store(2)
		if err = n.Notify(t.Context(), item("100")); err == nil && met() {
			break
		}
		if err != nil {
			failed++
		}
		if failed == 5 { // and not that the machine was too busy for the time of a call
			t.Fatalf("Notify returned %v", err)
		}
	}
	a.denies.Store(true)
	time.Sleep(ttl)
	begin := time.Now()
	err = n.Notify(t.Context(), item("100"))
	if err == nil || errors.Is(err, shared.ErrUnavailable) || !strings.Contains(err.Error(), "E_UNAUTHORIZED") {
		t.Errorf("without the right to publish Notify returned %v after %v", err, time.Since(begin))
	}
}

// An nsqd that cannot ask is passed over for one that can.
func TestAnAuthenticationServerThatIsAwayForGood(t *testing.T) {
	t.Parallel()
	gone, there := startAuthd(t), startAuthd(t)
	one := nsqdtest.StartWith(t, nsqdtest.Options{AuthAddrs: []string{gone.addr()}})
	two := nsqdtest.StartWith(t, nsqdtest.Options{AuthAddrs: []string{there.addr()}})
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: one.Addr + "," + two.Addr, NSQ: nsqbus.Config{AuthSecret: nsqSecret}})
	testkit.Until(t, "it is subscribed on both", func() bool { return goneFrom(n) == "" && n.Bridge.Ready() })
	n.notify(t, "100") // to the first, which goes on being the first
	gone.away.Store(1 << 40)
	time.Sleep(ttl)
	for range 3 {
		if err := n.Notify(t.Context(), item("100")); err != nil {
			t.Fatalf("Notify returned %v", err)
		}
	}
}
