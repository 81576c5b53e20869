// Package browser runs the browser client in real Chromium, against two nodes that
// share a real nsqd, with the faults that pages live through.
package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/clienttest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/test/chromium"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/js"
)

const patience = testkit.Patience

func TestMain(m *testing.M) {
	nsqdtest.Main()
	goleak.VerifyTestMain(m)
}

//go:embed page.html
var pageHTML []byte

// noted is what a page of page.html has noted.
const noted = "JSON.stringify({ states: window.states, seen: window.seen })"

// scene is two nodes with a page open.
type scene struct {
	*chromium.Tab
	world *clienttest.World
}

// plays counts the systems that were started: many at a time share an nsqd.
var plays atomic.Int64

// ids are what the page watches.
var ids = []string{"1", "2", "3"}

// play opens the page, whose query names its secrets, one after the other, and waits
// until it shows the rows.
func play(t *testing.T, browser *chromium.Browser, nsqd *nsqdtest.Daemon, o clienttest.Options, query string) *scene {
	t.Helper()
	o.NSQAddr = nsqd.Addr
	o.QueuePrefix = fmt.Sprintf("play%d.", plays.Add(1))
	o.Handle = func(mux *http.ServeMux) {
		mux.Handle("/entity-sync/", http.StripPrefix("/entity-sync", js.Handler()))
		mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write(pageHTML)
		})
		mux.HandleFunc("GET /quickstart", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write(quickStart(t))
		})
	}
	world, err := clienttest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := world.Close(ctx); err != nil {
			t.Errorf("closing the nodes: %v", err)
		}
	})
	testkit.Until(t, "the nodes are ready", world.Ready)
	s := &scene{world: world}
	for _, id := range ids {
		s.write(t, id, 0)
	}
	s.Tab = browser.Open(t, "http://"+world.Front.Addr()+"/page?"+query)
	s.showsLive(0)
	return s
}

// write stores the number in the row, and announces it on one node or the other.
func (s *scene) write(t testing.TB, id string, n int) {
	t.Helper()
	row := json.RawMessage(fmt.Sprintf(`{"id":%q,"n":%d}`, id, n))
	if err := s.world.Write(t.Context(), n, id, row); err != nil {
		t.Fatal(err)
	}
}

// writes counts every row from one number to another.
func (s *scene) writes(from, to int) {
	s.T.Helper()
	for n := from; n <= to; n++ {
		for _, id := range ids {
			s.write(s.T, id, n)
		}
	}
}

func (s *scene) showsLive(n int) {
	s.T.Helper()
	for _, id := range ids {
		s.Until(fmt.Sprintf("all show %s as %d, live", id, n), fmt.Sprintf("window.show?.(%q, %d, 'live')", id, n))
	}
}

// wentWell checks what can be said of every run.
func (s *scene) wentWell(states string) {
	s.T.Helper()
	if back := s.Text("backwards()"); back != "" {
		s.T.Errorf("a value went backwards: %s", back)
	}
	// A node that has just heard of another one may have missed what that one said
	// before, and says stale until it has looked: that is no matter of these tests.
	const calm = "states.filter((s) => s !== 'stale').filter((s, i, all) => s !== all[i - 1]).join(' ')"
	if got := s.Text(calm); got != states {
		s.T.Errorf("the connection was %q, want %q", got, states)
	}
	if faults := s.Text("faults.join()"); faults != "" {
		s.T.Errorf("complaints: %s", faults)
	}
}

func TestClientInChromium(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	browser := chromium.Start(t, chromium.Options{Explain: noted})
	for name, test := range map[string]func(t *testing.T, play func(*testing.T, clienttest.Options, ...string) *scene){
		"a socket is dropped":             dropped,
		"the page sleeps":                 sleeps,
		"offline while 100 writes happen": offline,
		"the secret is renewed":           renewed,
		"the secret is revoked":           revoked,
		"a node is drained":               drained,
		"the page is put away":            putAway,
		"the quick start":                 quickStarts,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(t *testing.T, o clienttest.Options, secrets ...string) *scene {
				t.Helper()
				return play(t, browser, nsqd, o, "secret="+strings.Join(secrets, "&secret="))
			})
		})
	}
}

type player = func(*testing.T, clienttest.Options, ...string) *scene

func dropped(t *testing.T, play player) {
	s := play(t, clienttest.Options{}, "me")
	s.world.Front.Cut()
	s.Until("it is noticed", "states.includes('offline')")
	s.writes(1, 5)
	s.showsLive(5)
	s.world.Front.Shut(true)
	s.world.Front.Cut()
	s.Until("it is noticed", "sync.state === 'offline'")
	for _, id := range ids {
		s.Until("the rows stay shown", fmt.Sprintf("show(%q, 5, 'offline')", id))
	}
	s.world.Front.Shut(false)
	s.showsLive(5)
	s.wentWell("live offline live offline live")
}

func sleeps(t *testing.T, play player) {
	s := play(t, clienttest.Options{}, "me")
	s.Do(chromium.Command(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: "frozen"}))
	s.world.Front.Abandon() // as after an hour: nobody is told
	s.writes(1, 20)
	time.Sleep(17 * time.Second) // longer than two looks at the clock are apart
	s.Do(chromium.Command(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: "active"}))
	s.showsLive(20)
	s.wentWell("live offline live")
}

func offline(t *testing.T, play player) {
	s := play(t, clienttest.Options{}, "me")
	s.world.Front.Shut(true)
	s.world.Front.Abandon()
	s.isOffline(true)
	for i := range 100 {
		for _, id := range ids {
			s.write(t, id, i+1)
		}
		time.Sleep(100 * time.Millisecond) // ten seconds in all
	}
	s.Until("offline", "sync.state === 'offline'")
	s.world.Front.Shut(false)
	s.isOffline(false)
	s.showsLive(100)
	s.wentWell("live offline live")
}

// isOffline has the browser tell the page that there is no network, or one again.
func (s *scene) isOffline(off bool) {
	s.T.Helper()
	s.Do(chromium.Command(network.Enable, network.EnableParams{}),
		chromium.Command(network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}))
}

func renewed(t *testing.T, play player) {
	begin := time.Now()
	play(t, clienttest.Options{}, "me")
	life := lifetime(3*time.Second, time.Since(begin))
	s := play(t, clienttest.Options{Verify: true, Lifetime: map[string]time.Duration{"first": life}}, "first", "second")
	s.Until("another is asked for", "asked === 2")
	time.Sleep(life) // until the first is of no use
	s.writes(1, 3)
	s.showsLive(3)
	s.wentWell("live")
}

// lifetime is that of a secret which must not expire before its page is there: where to
// open one took long, it lasts longer than is enough.
func lifetime(enough, opening time.Duration) time.Duration { return max(enough, 3*opening) }

func revoked(t *testing.T, play player) {
	s := play(t, clienttest.Options{Verify: true}, "me")
	s.world.Withdraw("me")
	if err := s.world.Node(1).Revoke(t.Context(), "me"); err != nil {
		t.Fatal(err)
	}
	s.Until("denied", "sync.state === 'denied' && sync.error.code === 'revoked' && sync.error.closeCode === 4503")
	for _, id := range ids {
		s.Until("nothing is shown", fmt.Sprintf("show(%q, undefined, 'denied')", id))
	}
	taken := s.world.Front.Taken()
	time.Sleep(2 * time.Second) // longer than the first few waits to come back
	if now := s.world.Front.Taken(); now != taken {
		t.Errorf("the client came back")
	}
	s.wentWell("live denied")
}

func drained(t *testing.T, play player) {
	s := play(t, clienttest.Options{}, "me")
	for range 2 { // whichever node it is on
		if err := s.world.StartNode(); err != nil {
			t.Fatal(err)
		}
		if err := s.world.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.writes(1, 20)
	s.showsLive(20)
	if back := s.Text("backwards()"); back != "" {
		s.T.Errorf("a value went backwards: %s", back)
	}
	if states := s.Text("states.join(' ')"); !strings.Contains(states, "live offline") || !strings.HasSuffix(states, "live") {
		t.Errorf("the connection was %q", states)
	}
}

func putAway(t *testing.T, play player) {
	s := play(t, clienttest.Options{}, "me")
	const attempts = 5 // for no browser promises to keep a page, however fit it is
	for n := 1; ; n++ {
		s.Run("addEventListener('pageshow', (event) => { window.persisted = event.persisted; })")
		s.Do(chromedp.Navigate("about:blank"))
		s.writes(5*n-4, 5*n)
		s.Run("void setTimeout(() => history.back(), 10)")
		s.Until("it is back", "location.pathname === '/page' && document.readyState === 'complete' && window.show")
		s.showsLive(5 * n)
		if kept := s.Text("window.persisted"); kept == "true" {
			break
		} else if n == attempts {
			t.Fatalf("the page was never kept (%s), in %d attempts", kept, n)
		}
	}
	s.wentWell("live offline live")
}

// quickStart returns the page that docs/clients.md shows.
func quickStart(t *testing.T) []byte {
	return []byte(docs.Block(t, "docs/clients.md", "html run"))
}

func quickStarts(t *testing.T, play player) {
	s := play(t, clienttest.Options{}, "me")
	s.Do(chromedp.Navigate("http://" + s.world.Front.Addr() + "/quickstart"))
	s.Until("there is no row", "document.title === '… (live)'")
	if err := s.world.Write(t.Context(), 0, "100", json.RawMessage(`{"name":"hammer"}`)); err != nil {
		t.Fatal(err)
	}
	s.Until("the row", "document.title === 'hammer (live)'")
}
