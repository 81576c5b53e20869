package schema

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/chromium"
	"github.com/entity-sync/entity-sync/web/client"
)

// useGo has the Go client say all that it can.
func useGo(t *testing.T, r *record) {
	n := start(t, open())
	p := listen(t, n.Node, r)
	var heard atomic.Bool
	c, err := client.Dial(t.Context(), p.url(), client.Options{
		Secret: "ann", RetryMin: time.Millisecond, RetryMax: time.Millisecond,
		OnMessage: func([]byte) { heard.Store(true) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	item := c.Subscribe(shared.EntityKey{Entity: "items", ID: "1"})
	isLive := func() bool {
		u, _ := item.Latest()
		return u.State == client.Live
	}
	testkit.Until(t, "the client has the item", isLive)
	all, exact := c.Topic("news", client.TopicOptions{}), c.Topic("news.uk", client.TopicOptions{Exact: true})
	<-all.Ready()
	<-exact.Ready()
	event, err := shared.ParseEvent([]byte(`{` + cloudEvent + `}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		c.Publish(t.Context(), "news", 1), c.Publish(t.Context(), "news.uk", nil),
		c.PublishEvent(t.Context(), event, "news", "news.de"),
		c.PublishEventWith(t.Context(), client.PublishOptions{NoEcho: true}, event, "news"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for r := range all.Events(t.Context()) {
		if r.Topic == "news.uk" {
			break
		}
	}
	p.cut()
	for _, member := range []string{`"version":`, `"after":`} {
		testkit.Until(t, "the client comes back with "+member, func() bool { return p.hears(member) })
	}
	testkit.Until(t, "the client has the item again", isLive)
	if err := c.Send(t.Context(), []byte(`{"hello":"node"}`)); err != nil {
		t.Fatal(err)
	}
	testkit.Until(t, "the application has answered", heard.Load)
	item.Close()
	all.Close()
	exact.Close()
	testkit.Until(t, "the node has no subscription", func() bool {
		return n.Bridge.Stats().Subscriptions == 0 && n.Bridge.Events().Stats().Subscriptions == 0
	})
}

// useBrowser has the browser client say all that it can.
func useBrowser(t *testing.T, r *record) {
	n := start(t, open())
	p := listen(t, n.Node, r)
	tab := chromium.Start(t, chromium.Options{}).Open(t, p.URL+"/page")
	tab.Run(`import("/entity-sync/index.js").then(({ connect }) => {
		window.sync = connect("/ws/entity-sync/", { secret: () => "ann", linger: 0, retry: { min: 1, max: 1 }, onMessage: () => (window.heard = true) });
		window.shown = {};
		window.states = [];
		sync.onState((state) => states.push(state));
		window.end = ["1", "none", "hidden"].map((id) => sync.subscribe("items", id, (update) => (shown[id] = update)));
	})`)
	const live = `window.shown?.["1"]?.row?.id === "1" && shown["1"].state === "live"`
	tab.Until("the page has the rows", live+` && shown.none?.rows?.length === 0 && shown.hidden?.state === "denied"`)
	p.cut()
	tab.Until("the page has them again", live+` && states.includes("offline")`)
	tab.Run(`sync.renew().then(() => (window.renewed = true))`)
	tab.Until("the secret is renewed", `window.renewed`)
	tab.Run(`sync.send({ hello: "node" })`)
	tab.Until("the application has answered", `window.heard`)
	tab.Run(`end.forEach((stop) => stop())`)
	testkit.Until(t, "the node has no subscription", func() bool { return n.Bridge.Stats().Subscriptions == 0 })
}
