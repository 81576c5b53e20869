package browser

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"

	"github.com/entity-sync/entity-sync/internal/clienttest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/test/chromium"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// tabsOf opens the scene's page in tabs that share a connection, one after the
// other, so that the first one leads.
func tabsOf(t *testing.T, browser *chromium.Browser, nsqd *nsqdtest.Daemon, o clienttest.Options, n int, secrets ...string) (world *clienttest.World, tabs []*scene) {
	t.Helper()
	first := play(t, browser, nsqd, o, "tabs&secret="+strings.Join(secrets, "&secret="))
	tabs = append(tabs, first)
	for len(tabs) < n {
		b := browser.Open(t, first.Text("location.href"))
		s := &scene{Tab: b, world: first.world}
		s.showsLive(0)
		tabs = append(tabs, s)
	}
	if f := first.world.Figures(); f.Clients != 1 || f.Subscriptions != len(ids) {
		t.Errorf("%d tabs have %d connections and %d subscriptions, want 1 and %d", n, f.Clients, f.Subscriptions, len(ids))
	}
	return first.world, tabs
}

func TestTabsShareAConnection(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	browser := chromium.Start(t, chromium.Options{Explain: noted})
	ready := func(t *testing.T, o clienttest.Options, secrets ...string) (*clienttest.World, []*scene) {
		t.Helper()
		return tabsOf(t, browser, nsqd, o, 3, secrets...)
	}
	t.Run("and changes reach all", func(t *testing.T) {
		t.Parallel()
		world, tabs := ready(t, clienttest.Options{}, "me")
		tabs[0].writes(1, 5)
		for _, s := range tabs {
			s.showsLive(5)
		}
		world.Front.Cut()
		tabs[0].writes(6, 10)
		for _, s := range tabs {
			s.showsLive(10)
			s.wentWell("live offline live")
		}
		if f := world.Figures(); f.Clients != 1 {
			t.Errorf("%d connections", f.Clients)
		}
	})
	t.Run("which is another tab's when the one that leads goes", func(t *testing.T) {
		t.Parallel()
		world, tabs := ready(t, clienttest.Options{}, "me")
		tabs[0].Close()
		tabs[1].writes(1, 5)
		for _, s := range tabs[1:] {
			s.showsLive(5)
			s.wentWell("live offline live")
		}
		tabs[1].Until("there is one connection", "true")
		testkit.Until(t, "there is one connection", func() bool { return world.Figures().Clients == 1 })
	})
	t.Run("which is another tab's when the one that leads is put to sleep", func(t *testing.T) {
		t.Parallel()
		_, tabs := ready(t, clienttest.Options{}, "me")
		tabs[0].Do(chromium.Command(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: "frozen"}))
		tabs[1].world.Front.Cut()
		tabs[1].writes(1, 5)
		for _, s := range tabs[1:] {
			s.showsLive(5)
		}
		tabs[0].Do(chromium.Command(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: "active"}))
		tabs[1].writes(6, 9)
		for _, s := range tabs {
			s.showsLive(9)
			if back := s.Text("backwards()"); back != "" {
				t.Errorf("a value went backwards: %s", back)
			}
		}
	})
	t.Run("and a tab that goes leaves nothing", func(t *testing.T) {
		t.Parallel()
		world, tabs := ready(t, clienttest.Options{}, "me")
		tabs[1].Run("sync.close()")
		tabs[2].Close()
		tabs[0].writes(1, 3)
		tabs[0].showsLive(3)
		tabs[0].Run("sync.close()")
		testkit.Until(t, "there is no connection", func() bool { return world.Figures().Clients == 0 })
	})
	t.Run("and its secret, which is renewed and revoked", func(t *testing.T) {
		t.Parallel()
		// The secret that the tabs come with is said anew when they are there, and lasts
		// from then on.
		begin := time.Now()
		world, tabs := tabsOf(t, browser, nsqd, clienttest.Options{Verify: true}, 1, "first", "first", "second")
		for range 2 {
			b := browser.Open(t, strings.Replace(tabs[0].Text("location.href"), "secret=first&", "", 1))
			tabs = append(tabs, &scene{Tab: b, world: world})
			tabs[len(tabs)-1].showsLive(0)
		}
		life := lifetime(5*time.Second, time.Since(begin))
		world.Last("first", life)
		tabs[0].Run("void sync.renew()")
		tabs[0].Until("another is asked for", "asked === 3")
		time.Sleep(life) // until the first is of no use
		tabs[0].writes(1, 3)
		for _, s := range tabs {
			s.showsLive(3)
			s.wentWell("live")
		}
		world.Withdraw("second")
		if err := world.Node(0).Revoke(t.Context(), "second"); err != nil {
			t.Fatal(err)
		}
		for _, s := range tabs {
			s.Until("denied", "sync.state === 'denied' && sync.error.code === 'revoked' && show('1', undefined, 'denied')")
		}
		if states := tabs[2].Text("states.join(' ')"); !strings.HasSuffix(states, "live denied") {
			t.Errorf("the connection was %q", states)
		}
	})
	t.Run("and one tab's bad secret is its own", func(t *testing.T) {
		t.Parallel()
		world, tabs := ready(t, clienttest.Options{Verify: true}, "me")
		world.Withdraw("bad")
		bad := browser.Open(t, strings.Replace(tabs[0].Text("location.href"), "secret=me", "secret=bad", 1))
		bad.Until("denied", "window.sync?.state === 'denied' && sync.error.code === 'unauthenticated' && show('1', undefined, 'denied')")
		tabs[0].writes(1, 3)
		for _, s := range tabs {
			s.showsLive(3)
		}
		world.Front.Cut()
		tabs[0].writes(4, 6)
		for _, s := range tabs {
			s.showsLive(6)
			s.wentWell("live offline live")
		}
		if seen := bad.Text("JSON.stringify(seen)"); strings.Contains(seen, `"n":`) {
			t.Errorf("the bad secret's tab was shown %s", seen)
		}
	})
	t.Run("through which each tab asks the node itself", func(t *testing.T) {
		t.Parallel()
		world, tabs := ready(t, clienttest.Options{}, "me")
		world.Front.Abandon() // as after an hour: nobody is told
		tabs[1].writes(1, 3)
		tabs[1].Run("void dispatchEvent(new Event('online'))")
		for _, s := range tabs {
			s.showsLive(3)
			s.wentWell("live offline live")
		}
	})
	t.Run("for which a tab that sleeps does not ask", func(t *testing.T) {
		t.Parallel()
		_, tabs := ready(t, clienttest.Options{}, "me")
		// The page has two locks a tab: that one, and the one that says that it is there.
		tabs[2].Run(`void setInterval(async () => {
			const { pending } = await navigator.locks.query();
			window.waiting = pending.filter(({ name }) => name.startsWith("entity-sync ")).length;
		}, 10)`)
		tabs[2].Until("two wait", "window.waiting === 2")
		for _, to := range []struct {
			state   page.SetWebLifecycleStateState
			waiting string
		}{{"frozen", "1"}, {"active", "2"}, {"frozen", "1"}} {
			tabs[1].Do(chromium.Command(page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: to.state}))
			tabs[2].Until(string(to.state)+": "+to.waiting+" wait", "window.waiting === "+to.waiting)
		}
		tabs[0].Close()
		tabs[2].writes(1, 3)
		tabs[2].showsLive(3)
		tabs[2].wentWell("live offline live")
	})
	t.Run("with the places that another one gives up", func(t *testing.T) {
		t.Parallel()
		_, tabs := tabsOf(t, browser, nsqd, clienttest.Options{MaxSubscriptions: 4}, 2, "me")
		tabs[0].Run("void (window.end = sync.subscribe('items', '4', () => {}))")
		tabs[0].Until("the last place is taken", "sync.get('items', '4').state === 'live'")
		tabs[1].Run("void sync.subscribe('items', '5', () => {})")
		tabs[1].Until("there is none", "sync.get('items', '5').error?.code === 'too_many_subscriptions'")
		tabs[0].Run("end()")
		tabs[1].Until("there is one", "sync.get('items', '5').state === 'live'")
	})
}
