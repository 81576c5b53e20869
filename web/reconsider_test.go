package web_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

func isAck(r wire.Reply) bool { return r.Action == wire.ActionAck }

func isUnsubscribed(topic shared.Topic) func(wire.Reply) bool {
	return func(r wire.Reply) bool { return r.Action == wire.ActionUnsubscribed && r.Topic == topic }
}

// rights is an application's list of the topics that clients may hear.
type rights struct {
	mu    sync.Mutex
	may   map[shared.Topic]bool
	asked []string
	wait  func(shared.Topic) // before an answer is given, after it has been decided; nil waits for nothing
}

func (r *rights) authorize(_ context.Context, a shared.AccessRequest) error {
	r.mu.Lock()
	r.asked = append(r.asked, string(a.Topic))
	may, wait := r.may[a.Topic], r.wait
	r.mu.Unlock()
	if wait != nil {
		wait(a.Topic)
	}
	if !may {
		return shared.ErrForbidden
	}
	return nil
}

func (r *rights) set(topic shared.Topic, may bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.may == nil {
		r.may = make(map[shared.Topic]bool)
	}
	r.may[topic] = may
}

func (r *rights) takeAsked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

// A right that is withdrawn ends the subscriptions of all nodes, and no others.
func TestReconsider(t *testing.T) {
	var b membus.Broker
	var r rights
	for _, topic := range []shared.Topic{"private.ann", "private.ann.toasts", "private.bob"} {
		r.set(topic, true)
	}
	here, there := startOn(t, &b, web.Config{Authorize: r.authorize}, echo), startOn(t, &b, web.Config{Authorize: r.authorize}, echo)
	var clients []*conn
	for _, s := range []*server{here, there} {
		s.channel(t, "private", events.Channel{})
		c := s.dialV2(t)
		c.Send(`{"action":"subscribe","ref":1,"body":[{"topic":"private.ann.toasts"},{"topic":"private.bob"}]}`)
		c.WantReply("ack 1")
		clients = append(clients, c)
	}
	r.set("private.ann.toasts", false)
	if err := here.handler.Reconsider(t.Context(), "private.ann"); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		c.WantReply("unsubscribed private.ann.toasts forbidden")
	}
	here.publish(t, "private.ann.toasts", "1")
	here.publish(t, "private.bob", "2")
	for _, c := range clients {
		c.WantReply("event private.bob [private.bob] 2")
	}
	for what, topics := range map[string][]shared.Topic{"a malformed topic": {"a..b"}, "no topic": nil} {
		if err := here.handler.Reconsider(t.Context(), topics...); !errors.Is(err, shared.ErrBadTopic) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A node that missed a call of Reconsider asks about everything when it hears the bus again. The
// node that called asks at once.
func TestReconsiderWhileTheBusIsAway(t *testing.T) {
	var b membus.Broker
	var r rights
	r.set("private.ann", true)
	here, there := startOn(t, &b, web.Config{Authorize: r.authorize}, echo), startOn(t, &b, web.Config{Authorize: r.authorize}, echo)
	var clients []*conn
	for _, s := range []*server{here, there} {
		s.channel(t, "private", events.Channel{})
		c := s.dialV2(t)
		c.Send(`{"action":"subscribe","body":{"topic":"private.ann"}}`)
		c.WantReply("ack")
		clients = append(clients, c)
	}
	b.SetDown(true)
	r.set("private.ann", false)
	if err := here.handler.Reconsider(t.Context(), "private"); err == nil {
		t.Error("the bus is away, and there is no error")
	}
	clients[0].WantReply("unsubscribed private.ann forbidden")
	b.SetDown(false)
	clients[1].Until("unsubscribed", isUnsubscribed("private.ann")) // before or after a gap
}

// A right that is withdrawn while the application is asked about a subscription, or about a new
// secret, ends the subscription: the answer is older than the withdrawal.
func TestARightThatIsWithdrawnWhileItIsAskedAbout(t *testing.T) {
	for name, request := range map[string]string{
		"a subscription": `{"action":"subscribe","ref":2,"body":{"topic":"private.ann"}}`,
		"a new secret":   `{"action":"secret","ref":2,"body":"` + mark + `ann"}`,
	} {
		t.Run(name, func(t *testing.T) {
			var r rights
			s := start(t, web.Config{Authorize: r.authorize}, echo)
			s.channel(t, "private", events.Channel{})
			s.channel(t, "public", open)
			r.set("private.ann", true)
			c := s.dialV2(t)
			c.Send(`{"action":"subscribe","ref":1,"body":[{"topic":"public"}]}`)
			if strings.Contains(request, "secret") {
				c.Send(`{"action":"subscribe","ref":1,"body":[{"topic":"private.ann"}]}`)
				c.WantReply("ack 1")
			}
			c.WantReply("ack 1")
			entered, leave := make(chan struct{}), make(chan struct{})
			var once sync.Once
			r.mu.Lock()
			r.wait = func(shared.Topic) {
				once.Do(func() {
					close(entered)
					<-leave
				})
			}
			r.mu.Unlock()
			c.Send("%s", request)
			<-entered
			r.set("private.ann", false)
			if err := s.handler.Reconsider(t.Context(), "private.ann"); err != nil {
				t.Error(err)
			}
			close(leave)
			c.Until("unsubscribed", isUnsubscribed("private.ann"))
			s.publish(t, "private.ann", "1")
			s.publish(t, "public", "2")
			c.Until("the public event", func(r wire.Reply) bool {
				if r.Topic == "private.ann" {
					t.Errorf("after the subscription has ended came %+v", r)
				}
				return r.Topic == "public"
			})
		})
	}
}

// Without a word of the application's each subscription is asked about within the period.
func TestTopicsAreReauthorized(t *testing.T) {
	var r rights
	r.set("private.ann", true)
	s := start(t, web.Config{Authorize: r.authorize, ReauthorizeEvery: 50 * time.Millisecond}, echo)
	s.channel(t, "private", events.Channel{})
	c := s.dialV2(t)
	c.Send(`{"action":"subscribe","body":{"topic":"private.ann"}}`)
	c.WantReply("ack")
	testkit.Until(t, "the application is asked again", func() bool { return len(r.takeAsked()) > 0 })
	r.set("private.ann", false)
	c.WantReply("unsubscribed private.ann forbidden")
}

// The application hears of subscribe, unsubscribe and publish: case D11.
func TestTheApplicationHearsWhatClientsDo(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	s := start(t, web.Config{Observe: func(a shared.AccessRequest) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, fmt.Sprint(a.Action, " ", a.Key.Entity, a.Key.ID, a.Topic, string(a.Event.Data())))
		if a.Topic == "x.panics" {
			panic("the application's")
		}
	}}, echo)
	s.channel(t, "x", open)
	c := s.dialV2(t)
	for _, request := range []string{
		`{"action":"subscribe","ref":1,"body":[{"topic":"x"},{"entity":"items","id":"1"},{"topic":"closed"}]}`,
		`{"action":"subscribe","ref":1,"body":[{"topic":"x","exact":true},{"entity":"items","id":"1"},{"entity":"items","id":"2"}]}`,
		`{"action":"publish","ref":1,"body":{"topic":["x.a","x.panics"],"data":7}}`,
		`{"action":"unsubscribe","ref":1,"body":[{"topic":"x"},{"topic":"x"},{"entity":"items","id":"1"},{"entity":"items","id":"3"}]}`,
		`{"action":"subscribe","ref":1,"body":[{"topic":"x.b"}]}`,
	} {
		c.Send("%s", request)
		c.Until("the answer", isAck)
	}
	c.Close()
	want := []string{
		"subscribe x", "subscribe items1", "subscribe items2", "publish x.a7", "publish x.panics7",
		"unsubscribe x", "unsubscribe items1", "subscribe x.b", "unsubscribe items2", "unsubscribe x.b",
	}
	testkit.Until(t, "the application has heard everything", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(heard) >= len(want)
	})
	if !slices.Equal(heard, want) {
		t.Errorf("heard %q\nwant %q", heard, want)
	}
}
