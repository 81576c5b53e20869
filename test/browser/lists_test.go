package browser

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/chromium"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web/js"
)

// members is how many the list has at first: more than a client may watch.
const members = 1504

// longList is a list of ids, and its members, which have a number.
type longList struct {
	mu    sync.Mutex
	first int // the first id of those that are left
	n     map[string]int
}

type member struct {
	ID string `json:"id"`
	N  int    `json:"n"`
}

func (l *longList) ids(context.Context, shared.EntityKey, string) (rows []map[string]string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := l.first; id <= members; id++ {
		rows = append(rows, map[string]string{"id": strconv.Itoa(id)})
	}
	return rows, nil
}

func (l *longList) member(_ context.Context, key shared.EntityKey, _ string) (member, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return member{key.ID, l.n[key.ID]}, nil
}

func (l *longList) write(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// serve starts a node that has the list, and serves a page with the script.
func (l *longList) serve(t *testing.T, c es.Config, script string) (node *es.EntitySync, url string) {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close) // after the node
	node = nodetest.New(t, c)
	if err := es.RegisterRows(node, "lists", l.ids); err != nil {
		t.Fatal(err)
	}
	if err := es.Register(node, "items", l.member); err != nil {
		t.Fatal(err)
	}
	mux.Handle("/ws/entity-sync/", node)
	mux.Handle("/entity-sync/", http.StripPrefix("/entity-sync", js.Handler()))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, listPage, canary.Mark, script)
	})
	return node, server.URL
}

const listPage = `<script type="module">
import { connect } from "/entity-sync/index.js";
const sync = connect("/ws/entity-sync/", { secret: %q });
const drawn = new Map();
const draw = (id, update) => drawn.set(id, update);
%s
const updates = () => [...shown.keys()].map((id) => [id, drawn.get(id)]);
Object.assign(window, {
  turnTo: (page) => { turnTo(page); },
  shows: (first, last) => shown.size === last - first + 1 && updates().every(([id, u]) => id >= first && id <= last && u?.row?.id === id && u.state === "live"),
  number: (id) => drawn.get(String(id))?.row?.n,
  counts: (state, code) => updates().filter(([, u]) => u?.state === state && u.error?.code === code).length,
});
</script>`

// The recipe for long lists shows every member of one with more than a client may
// watch; and without the recipe the limit is where the document says.
func TestALongListIsShownPageByPage(t *testing.T) {
	recipe := docs.Block(t, "docs/recipes.md", "js page")
	if !strings.Contains(docs.Read(t, "docs/recipes.md"), "MaxSubscriptions: 5000, SubscribeRate: 500") {
		t.Fatal("docs/recipes.md does not say how to raise the limit")
	}
	list := &longList{first: 1, n: make(map[string]int)}
	c := es.Config{NSQAddr: nsqdtest.Start(t).Addr}
	node, url := list.serve(t, c, recipe)
	everything := strings.ReplaceAll(recipe, "50", "5000")
	_, limited := list.serve(t, c, everything)
	c.Web.MaxSubscriptions, c.Web.SubscribeRate = 5000, 500
	_, raised := list.serve(t, c, everything)
	browser := chromium.Start(t, chromium.Options{Explain: noted})

	page := browser.Open(t, url)
	for n := 0; n*50 < members; n++ {
		page.Until("the page is turned", fmt.Sprintf("window.turnTo && (turnTo(%d), shows(%d, %d))", n, 50*n+1, min(50*n+50, members)))
	}
	announce := func(key shared.EntityKey) {
		t.Helper()
		if err := node.Notify(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	list.write(func() { list.n["1503"] = 7 })
	announce(shared.EntityKey{Entity: "items", ID: "1503"})
	page.Until("a member has changed", "number(1503) === 7")
	list.write(func() { list.first = 3 })
	announce(shared.EntityKey{Entity: "lists", ID: "all"})
	page.Until("the list has lost two, and the last page with it", "shows(1503, 1504)")
	testkit.Until(t, "the list and what is shown are all that is watched", func() bool { return node.Bridge.Stats().Subscriptions == 1+2 })

	list.write(func() { list.first = 1 })
	browser.Open(t, limited).Until("505 of 1,504 are one too many",
		"window.counts?.('denied', 'too_many_subscriptions') === 505 && counts('live') === 999")
	browser.Open(t, raised).Until("all are live", "window.counts?.('live') === 1504")
}
