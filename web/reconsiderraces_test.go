package web_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// A refusal of an earlier secret does not end what the present secret allows.
func TestASecretThatIsRenewedWhileItIsAskedAbout(t *testing.T) {
	asked, leave := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var withdrawn, ended bool
	var once sync.Once
	s := start(t, web.Config{Authorize: func(_ context.Context, a shared.AccessRequest) error {
		mu.Lock()
		gone, over, old := withdrawn, ended, a.Secret.Reveal() == mark+"old"
		mu.Unlock()
		switch {
		case over && a.Topic == "private.last":
			return shared.ErrForbidden
		case gone && a.Topic == "private.ann" && old:
			once.Do(func() { close(asked) }) // it is asked about on this node, and when the bus is heard
			<-leave
			return shared.ErrForbidden
		}
		return nil
	}}, echo)
	s.channel(t, "private", events.Channel{})
	c := s.dialV2(t)
	c.Send(`{"action":"secret","ref":1,"body":"%sold"}`, mark)
	c.WantReply("ack 1")
	c.Send(`{"action":"subscribe","ref":2,"body":{"topic":"private.ann"}}`)
	c.WantReply("ack 2")
	c.Send(`{"action":"unsubscribe","ref":2,"body":{}}`) // the session is done with what comes before
	c.WantReply("ack 2")
	mu.Lock()
	withdrawn = true
	mu.Unlock()
	if err := s.handler.Reconsider(t.Context(), "private.ann"); err != nil {
		t.Fatal(err)
	}
	<-asked
	c.Send(`{"action":"secret","ref":3,"body":"%snew"}`, mark)
	c.WantReply("ack 3")
	c.Send(`{"action":"subscribe","ref":4,"body":{"topic":"private.last"}}`)
	c.WantReply("ack 4")
	mu.Lock()
	ended = true
	mu.Unlock()
	if err := s.handler.Reconsider(t.Context(), "private.last"); err != nil {
		t.Fatal(err)
	}
	close(leave)
	c.WantReply("unsubscribed private.last forbidden") // by the next round
	s.publish(t, "private.ann", "1")
	c.WantReply("event private.ann [private.ann] 1")
}

// hook is a log that calls a function at each line, before the session goes on.
type hook struct{ f func(line string) }

func (h hook) Enabled(context.Context, slog.Level) bool { return true }
func (h hook) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h hook) WithGroup(string) slog.Handler            { return h }
func (h hook) Handle(_ context.Context, r slog.Record) error {
	h.f(r.Message)
	return nil
}

// The application hears that a subscription has begun before it hears that the subscription has
// ended, also if Reconsider ends the subscription at once.
func TestObserveHearsBeginBeforeEnd(t *testing.T) {
	var r rights
	r.set("private.ann", true)
	heard := make(chan shared.Action, 2)
	var s *server
	asked := make(chan struct{}, 100) // more than are asked
	log := slog.New(hook{func(line string) {
		if line != "subscribed to a topic" {
			return
		}
		r.mu.Lock()
		r.may["private.ann"] = false
		r.wait = func(shared.Topic) { asked <- struct{}{} }
		r.mu.Unlock()
		if err := s.handler.Reconsider(t.Context(), "*"); err != nil {
			t.Error(err)
		}
		<-asked
		time.Sleep(5 * time.Millisecond) // so that the subscription ends now if nothing prevents that
	}})
	s = start(t, web.Config{Authorize: r.authorize, Logger: log, Observe: func(a shared.AccessRequest) { heard <- a.Action }}, echo)
	s.channel(t, "private", events.Channel{})
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","ref":1,"body":{"topic":"private.ann"}}`)
	for _, want := range []shared.Action{shared.ActionSubscribe, shared.ActionUnsubscribe} {
		if got := <-heard; got != want {
			t.Errorf("heard %v, want %v", got, want)
		}
	}
	c.Until("unsubscribed", isUnsubscribed("private.ann"))
}

// A client is told that a subscription has ended after the answer that grants the subscription:
// before, the client would take the answer for the last word. If the client has the
// subscription again by then, it is told of a gap.
func TestAnEndIsToldAfterTheAnswer(t *testing.T) {
	for name, c := range map[string]struct{ request, told string }{
		"ended": {`[{"topic":"private.ann"},{"entity":"items","id":"1"}]`, "unsubscribed"},
		"anew":  {`[{"topic":"private.ann"},{"entity":"items","id":"1"},{"topic":"private.ann"}]`, "gap"},
	} {
		t.Run(name, func(t *testing.T) {
			var r rights
			r.set("private.ann", true)
			ended := make(chan struct{}, 2)
			var s *server
			log := slog.New(hook{func(line string) {
				if line != "subscribed" { // to the key
					return
				}
				r.set("private.ann", false)
				if err := s.handler.Reconsider(t.Context(), "*"); err != nil {
					t.Error(err)
				}
				<-ended
				time.Sleep(5 * time.Millisecond) // so that the client is told now if nothing prevents that
				r.set("private.ann", name == "anew")
			}})
			s = start(t, web.Config{Authorize: r.authorizeTopics, Logger: log, Observe: func(a shared.AccessRequest) {
				if a.Action == shared.ActionUnsubscribe && a.Topic != "" {
					ended <- struct{}{}
				}
			}}, echo)
			s.channel(t, "private", events.Channel{})
			client := s.dialV2(t)
			client.Send(`{"action":"subscribe","ref":1,"body":%s}`, c.request)
			var got []string
			client.Until("what is told", func(r wire.Reply) bool {
				if r.Action != wire.ActionUpdate {
					got = append(got, string(r.Action))
				}
				return len(got) == 2
			})
			if want := []string{"ack", c.told}; !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		})
	}
}

func (r *rights) authorizeTopics(ctx context.Context, a shared.AccessRequest) error {
	if a.Topic == "" {
		return nil
	}
	return r.authorize(ctx, a)
}
