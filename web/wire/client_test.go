package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/shared"
)

// Everything that is not in the document is the application's own.
func TestWhatIsNoReplyIsTheApplications(t *testing.T) {
	for _, own := range []string{
		``, `rubbish`, `7`, `null`, `[]`, `{}`, `{"hello":1}`, `{"action":"dance"}`, `{"action":7}`, `{"action":"update"}`,
		`{"action":"update","body":{"entity":"items","id":"1","rows":[]}}`, `{"action":"update","body":{"entity":"","id":"1","rows":[1]}}`,
		`{"action":"unsubscribed","body":{"entity":"items","id":"1"}}`, `{"action":"error","body":{}}`, `{"action":"delete","body":{"entity":"items","id":""}}`,
		`{"Action":"stale"}`, `{"action":"stale","ACTION":"fresh"}`, `{"action":"stale","action":"fresh"}`, `{"action":"ack","ref":1,"ref":2}`,
		`{"action":"delete","Body":{"entity":"items","id":"1"}}`, `{"action":"delete","body":{"entity":"items","id":"1","ID":"2"}}`,
		`{"action":"delete","body":{"entity":"items","id":"1"},"body":{"entity":"items","id":"2"}}`, `{"action":"delete","body":{"entity":"items","id":"\ud800"}}`,
		`{"action":"update","body":{"entity":"items","id":"1","rows":[1],"rows":[2]}}`, `{"action":"update","body":{"entity":"items","id":"1","Rows":[1]}}`,
	} {
		if r, ok := ReadReply([]byte(own)); ok {
			t.Errorf("%s is read as %+v", own, r)
		}
	}
}

// The document's word on each close code and upgrade status is kept.
func TestEveryCloseCodeIsObeyed(t *testing.T) {
	for _, row := range docs.Table(t, protocol, "| code | when | reconnect? |") {
		var code int
		if _, err := fmt.Sscan(row[0], &code); err != nil {
			t.Fatal(err)
		}
		if got, want := IsFinal(code), strings.HasPrefix(row[2], "no"); got != want {
			t.Errorf("after %d the client gives up: %v, want %v", code, got, want)
		}
	}
	for code := 4400; code < 4600; code++ {
		if got := IsFinal(code); got != (code >= 4500) {
			t.Errorf("after %d the client gives up: %v", code, got)
		}
	}
}

// A hint comes back as it was given, whatever else a reason may be.
func TestRetryHint(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Millisecond, 700 * time.Millisecond, time.Hour} {
		if got, ok := ParseRetryHint(RetryHint(wait)); !ok || got != wait {
			t.Errorf("%v is read as %v, %v", wait, got, ok)
		}
	}
	if got, ok := ParseRetryHint(RetryHint(1000 * time.Hour)); !ok || got != time.Hour {
		t.Errorf("a wait that is too long is read as %v, %v", got, ok)
	}
	for _, reason := range []string{"", "restarting", "restarting; retry in -1 ms", "restarting; retry in 99999999999999999999 ms", "retry in 5 ms"} {
		if got, ok := ParseRetryHint(reason); ok {
			t.Errorf("%q is read as %v", reason, got)
		}
	}
}

// FuzzReadReply: no message ends the client, and what is taken for a reply makes sense.
func FuzzReadReply(f *testing.F) {
	for _, line := range docs.Lines(f, protocol, "json server") {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"action":"update","body":{"entity":"items","id":"1","rows":[null,"\u0000",{}]}}`))
	f.Add([]byte(`{"action":"delete","Action":"stale","body":{"entity":"items","id":"1","id":"\ud800"}}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		r, ok := ReadReply(message)
		if !ok {
			return
		}
		var lax struct {
			Action Action
			Body   shared.EntityKey
		}
		if err := json.Unmarshal(message, &lax); err != nil || lax.Action != r.Action || lax.Body != r.Key {
			t.Fatalf("%q is read as %+v, and by others as %+v, %v", message, r, lax, err)
		}
		switch r.Action {
		case ActionUpdate, ActionCurrent, ActionDelete, ActionUnsubscribed:
			if err := r.Key.Validate(); err != nil && (r.Action != ActionUnsubscribed || r.Topic == "") {
				t.Errorf("a frame is about %+v: %v", r.Key, err)
			}
		case ActionEvent, ActionGap:
			if r.Topic == "" || (r.Action == ActionEvent) != (len(r.Context) > 0 && json.Valid(r.Event)) {
				t.Errorf("%s is about %q, for %q: %s", r.Action, r.Topic, r.Context, r.Event)
			}
		}
		if (r.Action == ActionUpdate) != (len(r.Rows) > 0) {
			t.Errorf("%s with %d rows", r.Action, len(r.Rows))
		}
		for _, row := range r.Rows {
			if !json.Valid(row) {
				t.Errorf("a row is %q", row)
			}
		}
		if wants := r.Action == ActionUnsubscribed || r.Action == ActionError; wants && r.Code == "" {
			t.Errorf("%s without a code", r.Action)
		}
	})
}
