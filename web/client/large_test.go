package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

// widen sets how wide rows are from now on.
func (t *table) widen(width int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.width = width
}

// A row that is too large is its own key's error. All others go on over the same
// connection, and so does that key once its row is smaller.
func TestARowThatIsTooLarge(t *testing.T) {
	for _, limit := range []int64{1 << 10, 64 << 10} { // less and more than what is looked at
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			w := start(t, es.Config{})
			w.change(t, "large")
			w.change(t, "small")
			c := w.dial(client.Options{MaxUpdateBytes: limit})
			large, small := watch(t, c, "large"), watch(t, c, "small")
			large.untilRev(1)
			small.untilRev(1)

			w.table.widen(int(limit))
			for range 3 {
				w.change(t, "large")
			}
			u := large.untilState(client.Denied)
			if !errors.Is(u.Err, client.ErrTooLarge) || !strings.Contains(u.Err.Error(), fmt.Sprint(limit)) || u.Rows != nil {
				t.Errorf("denied with %v, and %d rows", u.Err, len(u.Rows))
			}
			if _, err := client.Get[row](t.Context(), c, key("large")); !errors.Is(err, client.ErrTooLarge) {
				t.Errorf("another caller got %v", err)
			}

			w.table.widen(0)
			w.change(t, "large")
			large.untilRev(5)
			w.change(t, "small")
			small.untilRev(2)
			if got := small.String(); got != "live(1) live(2)" {
				t.Errorf("the other was shown %s", got)
			}
			if got := w.line.dials.Load(); got != 1 {
				t.Errorf("it took %d connections", got)
			}
			if got := w.log.String(); strings.Contains(got, "xxx") {
				t.Errorf("a row is in the log: %s", got)
			}
		})
	}
}

// A key whose row is too large from the start is denied, and after a reconnect, too.
func TestARowThatIsTooLargeFromTheStart(t *testing.T) {
	w := start(t, es.Config{})
	w.table.widen(10_000)
	w.change(t, "1")
	c := w.dial(client.Options{MaxUpdateBytes: 5_000})
	v := watch(t, c, "1")
	v.untilState(client.Denied)
	w.line.cut()
	testkit.Until(t, "it is back", func() bool { return w.line.dials.Load() == 2 })
	w.table.widen(0)
	w.change(t, "1")
	v.untilRev(2)
	if got := v.String(); !strings.HasPrefix(got, "denied(client: the rows are larger than Options.MaxUpdateBytes, which is 5000)") {
		t.Errorf("shown %s", got)
	}
}

// What is no key's is lost without harm.
func TestAMessageThatIsTooLarge(t *testing.T) {
	heard := make(chan string, 10)
	c, server := dialScript(t, client.Options{MaxUpdateBytes: 1 << 10, OnMessage: func(m []byte) { heard <- string(m) }})
	v := watch(t, c, "1")
	server.hears(fmt.Sprintf(subscribe, 1, "1", ""))
	long := strings.Repeat("x", 100_000)
	server.says(ack(1), update("1", 1),
		`{"own":"`+long+`"}`, `{"action":1,"own":"`+long+`"}`, long, `{"action":"update","body":{"entity":"items","id":"2","rows":["`+long+`"]}}`,
		`{"action":"error","body":{"code":"rate_limited","message":"`+strings.Repeat("x", 2_000)+`"}}`, "end")
	if got := <-heard; got != "end" {
		t.Errorf("the application got %.100s", got)
	}
	v.untilRev(1)
	if got := v.String(); got != "live(1)" {
		t.Errorf("shown %s", got)
	}

	// Whose rows they are is not known, so nothing may be taken for current.
	server.says(`{"action":"update","body":{"rows":["` + long + `"],"entity":"items","id":"1"}}`)
	s := untilStatus(t, c, client.Connecting)
	if !errors.Is(s.Err, client.ErrTooLarge) {
		t.Errorf("the connection ended with %v", s.Err)
	}
	if v.untilState(client.Stale).Key != (shared.EntityKey{Entity: "items", ID: "1"}) {
		t.Error("the key is another")
	}
}
