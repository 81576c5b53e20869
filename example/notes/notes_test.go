package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/pgtest"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := pgtest.End(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

// The document's way: prepare the database twice, as a second start would, serve,
// and write from a page and from elsewhere.
func TestNotes(t *testing.T) {
	users[canary.Mark] = "ann"
	d := pgtest.Shared(t).NewDatabase(t)
	for range 2 {
		if err := prepare(t.Context(), d.URL()); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { d.Exec(t, "drop owned by notes_app; drop role notes_app") })
	ctx, stop := context.WithCancel(t.Context())
	addr, served := freeAddr(t), make(chan error, 1)
	go func() { served <- serve(ctx, addr, d.URLAs("notes_app"), "") }()

	ann, bob := watch(t, addr, canary.Mark, "ann"), watch(t, addr, "token-of-bob", "bob")
	curious := watch(t, addr, "token-of-bob", "ann")
	add := func(token, text string) {
		t.Helper()
		answer, err := http.PostForm("http://"+addr+"/notes", url.Values{"token": {token}, "text": {text}})
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("adding %q: %s", text, answer.Status)
		}
	}
	add(canary.Mark, "of ann")
	ann.until("of ann")
	add("token-of-bob", "of bob")
	bob.until("of bob")
	d.Exec(t, "insert into notes (owner, text) values ('ann', 'from elsewhere')")
	ann.until("of ann", "from elsewhere")
	d.Exec(t, "update notes set owner = 'bob' where text = 'of ann'")
	ann.until("from elsewhere")
	bob.until("of ann", "of bob")
	d.Exec(t, "delete from notes")
	ann.until()
	bob.until()
	for _, path := range []string{"/", "/entity-sync/index.js"} {
		answer, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, answer.Status)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("serving ended with %v", err)
	}
	if frames, rows := curious.rest(); frames == 0 || rows > 0 {
		t.Errorf("Bob got %d frames of Ann's list with %d of her notes", frames, rows)
	}
	http.DefaultClient.CloseIdleConnections()
}

// watcher watches a list as the page does.
type watcher struct {
	t  *testing.T
	ws *websocket.Conn
}

// frame is what the page looks at.
type frame struct {
	Action string
	Body   struct{ Rows []struct{ Text string } }
}

func watch(t *testing.T, addr, token, list string) *watcher {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{"entity-sync.v2"}}
	var ws *websocket.Conn
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if ws, _, err = dialer.Dial("ws://"+addr+"/ws/entity-sync/", nil); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { ws.Close() })
	w := &watcher{t, ws}
	for _, m := range []any{
		map[string]any{"action": "secret", "body": token},
		map[string]any{"action": "subscribe", "body": map[string]string{"entity": "lists", "id": list}},
	} {
		if err := ws.WriteJSON(m); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// until reads until the list is as it should be.
func (w *watcher) until(want ...string) {
	w.t.Helper()
	w.ws.SetReadDeadline(time.Now().Add(patience))
	for {
		var f frame
		if err := w.ws.ReadJSON(&f); err != nil {
			w.t.Fatalf("waiting for %q: %v", want, err)
		}
		if f.Action != "update" && f.Action != "delete" {
			continue
		}
		var got []string
		for _, row := range f.Body.Rows {
			got = append(got, row.Text)
		}
		if slices.Equal(got, want) {
			return
		}
	}
}

// rest reads what there is until the server has closed the connection, and counts
// frames about the list, and rows.
func (w *watcher) rest() (frames, rows int) {
	w.t.Helper()
	w.ws.SetReadDeadline(time.Now().Add(patience))
	for {
		var f frame
		if err := w.ws.ReadJSON(&f); err != nil {
			if !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
				w.t.Errorf("the connection ended with %v", err)
			}
			return frames, rows
		}
		if f.Action == "update" || f.Action == "delete" {
			frames++
		}
		rows += len(f.Body.Rows)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The document shows what the program does.
func TestTheDocumentShowsTheProgram(t *testing.T) {
	document, err := os.ReadFile("../../docs/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"lists := db.Rows(pool, `select id, text from notes where owner = $1 order by id`).AsViewer(claims)",
		`db.Track(ctx, conn, "notes", "lists", "owner")`,
		"Outbox: &db.Outbox{Pool: pool}",
	} {
		if !strings.Contains(string(document), line) || !strings.Contains(string(program), line) {
			t.Errorf("%q is not in both", line)
		}
	}
	table := schema[strings.Index(schema, "("):strings.Index(schema, ");")]
	if !strings.Contains(string(document), table) {
		t.Errorf("the document has not the table of schema.sql: %s", table)
	}
}
