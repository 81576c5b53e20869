package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/client"
)

// channel registers a channel that is open to clients.
func (w *world) channel(name string, opts ...es.ChannelOption) {
	w.t.Helper()
	if err := es.RegisterChannel(w.EntitySync, name, append(opts, es.Public(), es.ClientsPublish())...); err != nil {
		w.t.Fatal(err)
	}
}

// publish publishes from the server's application.
func (w *world) publish(topic shared.Topic, data any) {
	w.t.Helper()
	if err := w.Publish(w.t.Context(), topic, data); err != nil {
		w.t.Fatal(err)
	}
}

// ear takes what a TopicSubscription receives.
type ear struct {
	t   testing.TB
	sub *client.TopicSubscription
}

// hear subscribes to a topic.
func hear(t testing.TB, c *client.Client, topic shared.Topic, o client.TopicOptions) ear {
	sub := c.Topic(topic, o)
	t.Cleanup(sub.Close)
	return ear{t, sub}
}

// heard is hear, once the server has acknowledged that.
func heard(t testing.TB, c *client.Client, topic shared.Topic, o client.TopicOptions) ear {
	t.Helper()
	e := hear(t, c, topic, o)
	e.ready()
	return e
}

func (e ear) ready() {
	e.t.Helper()
	select {
	case <-e.sub.Ready():
	case <-time.After(patience):
		e.t.Fatalf("waited %v in vain for %s to be subscribed to", patience, e.sub.Topic())
	}
}

func (e ear) next() (r client.Received) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for r := range e.sub.Events(ctx) {
		return r
	}
	e.t.Fatalf("waited in vain for an event of %s: %v, %v", e.sub.Topic(), ctx.Err(), e.sub.Err())
	return r
}

// text is what was received, in one line.
func text(r client.Received) string {
	if r.Gap {
		return fmt.Sprintf("gap %s %d", r.Topic, r.Missed)
	}
	return fmt.Sprintf("%s %v %s", r.Topic, r.Context, r.Event.Data())
}

func (e ear) wants(want ...string) {
	e.t.Helper()
	for _, want := range want {
		if got := text(e.next()); got != want {
			e.t.Fatalf("received %q, want %q", got, want)
		}
	}
}

// ends waits until the TopicSubscription ends, and returns why.
func (e ear) ends() error {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for r := range e.sub.Events(ctx) {
		e.t.Errorf("received %q, want the end", text(r))
	}
	if ctx.Err() != nil {
		e.t.Fatalf("%s does not end", e.sub.Topic())
	}
	e.ready()
	return e.sub.Err()
}

func TestEventsOfATopic(t *testing.T) {
	w := start(t, es.Config{})
	w.channel("news")
	c := w.dial(client.Options{})
	exact := heard(t, c, "news", client.TopicOptions{Exact: true})
	w.publish("news.uk", 1) // not for who wants news alone
	all := heard(t, c, "news", client.TopicOptions{})
	again := heard(t, c, "news", client.TopicOptions{})
	uk := heard(t, c, "news.uk", client.TopicOptions{})
	w.publish("news.uk.london", "fog")
	w.publish("news", 2)
	all.wants(`news.uk.london [news.uk news] "fog"`, "news [news] 2")
	again.wants(`news.uk.london [news.uk news] "fog"`, "news [news] 2")
	uk.wants(`news.uk.london [news.uk news] "fog"`)
	exact.wants("news [news] 2")
	if got := w.Bridge.Events().Stats().Subscriptions; got != 2 {
		t.Errorf("the server has %d subscriptions", got)
	}
	all.sub.Close()
	if err := all.ends(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	w.publish("news", 3)
	again.wants("news [news] 3")
	for _, e := range []ear{exact, again, uk} {
		e.sub.Close()
	}
	testkit.Until(t, "the server is told", func() bool { return w.Bridge.Events().Stats().Subscriptions == 0 })

	last := heard(t, c, "news", client.TopicOptions{})
	c.Close()
	if err := last.ends(); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("after Close it ended with %v", err)
	}
	if err := hear(t, c, "news", client.TopicOptions{}).ends(); !errors.Is(err, shared.ErrClosed) {
		t.Errorf("of a closed Client it ended with %v", err)
	}
}

func TestPublishing(t *testing.T) {
	w := start(t, es.Config{Authorize: func(_ context.Context, a shared.AccessRequest) error {
		if a.Topic == "news.secret" {
			return shared.ErrForbidden
		}
		return nil
	}})
	w.channel("news")
	if err := es.RegisterChannel(w.EntitySync, "closed"); err != nil {
		t.Fatal(err)
	}
	c, other := w.dial(client.Options{}), w.dial(client.Options{})
	mine, theirs := heard(t, c, "news", client.TopicOptions{}), heard(t, other, "news", client.TopicOptions{})
	event, err := shared.ParseEvent([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"own","x":1.50}`))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, err := range []error{
		c.Publish(ctx, "news.uk", map[string]string{"title": "rain"}), c.PublishEventWith(ctx, client.PublishOptions{NoEcho: true}, event, "news", "news.uk"), c.Publish(ctx, "news", nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	theirs.wants(`news.uk [news] {"title":"rain"}`)
	if r := theirs.next(); string(r.Event.JSON()) != string(event.JSON()) {
		t.Errorf("the event came as %s", r.Event.JSON())
	}
	theirs.wants("news [news] ")
	mine.wants(`news.uk [news] {"title":"rain"}`, "news [news] ")

	testRefusals(t, c, event)
	w.line.setDown(true)
	untilStatus(t, c, client.Offline)
	if err := c.Publish(ctx, "news", 1); !errors.Is(err, client.ErrOffline) {
		t.Errorf("offline: %v", err)
	}
}

func testRefusals(t *testing.T, c *client.Client, event shared.Event) {
	t.Helper()
	ctx := t.Context()
	for name, refused := range map[string]struct{ err, want error }{
		"no such channel":  {c.Publish(ctx, "nothing", 1), shared.ErrUnknownTopic},
		"a closed one":     {c.Publish(ctx, "closed", 1), shared.ErrForbidden},
		"not allowed":      {c.Publish(ctx, "news.secret", 1), shared.ErrForbidden},
		"a bad topic":      {c.Publish(ctx, "news..uk", 1), shared.ErrBadTopic},
		"everything":       {c.Publish(ctx, shared.Everything, 1), shared.ErrBadTopic},
		"no JSON":          {c.Publish(ctx, "news", func() {}), shared.ErrBadEvent},
		"no event":         {c.PublishEvent(ctx, shared.Event{}, "news"), shared.ErrBadEvent},
		"no topic":         {c.PublishEvent(ctx, event), client.ErrBadRequest},
		"too many topics":  {c.PublishEvent(ctx, event, slices.Repeat([]shared.Topic{"news"}, 17)...), client.ErrBadRequest},
		"too large":        {c.Publish(ctx, "news", strings.Repeat("x", 33<<10)), shared.ErrTooLarge},
		"one topic of two": {c.PublishEvent(ctx, event, "news", "closed"), shared.ErrForbidden},
	} {
		if !errors.Is(refused.err, refused.want) {
			t.Errorf("%s: %v, want %v", name, refused.err, refused.want)
		}
	}
	var said *client.Error
	if err := c.Publish(ctx, "nothing", 1); !errors.As(err, &said) || said.Code != "unknown_topic" {
		t.Errorf("the refusal is %v", err)
	}
}

func TestRefusedTopics(t *testing.T) {
	w := start(t, es.Config{})
	if err := es.RegisterChannel(w.EntitySync, "closed"); err != nil {
		t.Fatal(err)
	}
	w.channel("news")
	c := w.dial(client.Options{})
	for topic, want := range map[shared.Topic]error{"nothing": shared.ErrUnknownTopic, "closed": shared.ErrForbidden, "": shared.ErrBadTopic, "a.*": shared.ErrBadTopic, shared.Everything: shared.ErrForbidden} {
		if err := hear(t, c, topic, client.TopicOptions{}).ends(); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", topic, err, want)
		}
	}
	w.publish("news", 1) // the connection goes on
	e := heard(t, c, "news", client.TopicOptions{})
	w.publish("news", 2)
	e.wants("news [news] 2")
}

// What the server keeps is sent after a reconnect, each event once. Of what it does not keep
// the caller is told.
func TestTopicsAfterAReconnect(t *testing.T) {
	w := start(t, es.Config{})
	w.channel("kept", es.Keep(3, time.Hour))
	w.channel("news")
	c := w.dial(client.Options{})
	kept, news := heard(t, c, "kept", client.TopicOptions{}), heard(t, c, "news", client.TopicOptions{})
	silent := heard(t, c, "news.uk", client.TopicOptions{})
	w.publish("kept", 1)
	w.publish("kept", 2)
	w.publish("news", 1)
	kept.wants("kept [kept] 1", "kept [kept] 2")
	news.wants("news [news] 1")
	arrived := make(chan struct{}, 10)
	stop, err := w.Listen("kept", func(events.Received) { arrived <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	away := func(topic shared.Topic, data ...int) {
		w.line.setDown(true)
		untilStatus(t, c, client.Offline)
		for _, d := range data {
			w.publish(topic, d)
			<-arrived // until the node has kept it
		}
		w.line.setDown(false)
	}
	away("kept", 3, 4)
	kept.wants("kept [kept] 3", "kept [kept] 4")
	news.wants("gap news 0")
	silent.wants("gap news.uk 0")
	away("kept", 5, 6, 7, 8)
	kept.wants("gap kept 0") // the server does not know any more what came after the fourth
	news.wants("gap news 0")
	silent.wants("gap news.uk 0")
	w.publish("kept", 9)
	w.publish("news.uk", 2)
	kept.wants("kept [kept] 9")
	news.wants("news.uk [news.uk news] 2")
	silent.wants("news.uk [news.uk news] 2")
}

// A caller that does not keep up misses the oldest events, and is told how many.
func TestASlowReceiver(t *testing.T) {
	const published = 600
	w := start(t, es.Config{})
	w.channel("news")
	c := w.dial(client.Options{})
	slow, quick := heard(t, c, "news", client.TopicOptions{}), heard(t, c, "news", client.TopicOptions{})
	total := map[ear]int{}
	count := func(e ear, r client.Received) (isLast bool) {
		if r.Gap {
			total[e] += int(r.Missed)
		} else {
			total[e]++
		}
		return string(r.Event.Data()) == fmt.Sprint(published)
	}
	for i := range published {
		w.publish("news", i+1)
	}
	for !count(quick, quick.next()) {
	}
	first := slow.next()
	if !first.Gap || first.Missed == 0 || first.Topic != "news" {
		t.Errorf("first it received %s", text(first))
	}
	received := 0
	for isLast := count(slow, first); !isLast; received++ {
		isLast = count(slow, slow.next())
	}
	if received > 2*256+1 {
		t.Errorf("%d waited", received)
	}
	for e, got := range total {
		if got != published {
			t.Errorf("received or missed %d, want %d (slow: %v)", got, published, e == slow)
		}
	}
}

// An event that the client does not read is a gap.
func TestAnEventThatIsTooLarge(t *testing.T) {
	w := start(t, es.Config{})
	w.channel("news")
	e := heard(t, w.dial(client.Options{MaxUpdateBytes: 1024}), "news", client.TopicOptions{})
	w.publish("news", strings.Repeat("x", 10<<10))
	w.publish("news", 1)
	e.wants("gap news 0", "news [news] 1")
}

// A subscription that a new secret does not allow ends.
func TestATopicThatIsForbiddenLater(t *testing.T) {
	t.Parallel()
	source := tokens{lives: 2 * time.Second}
	w := start(t, es.Config{VerifySecret: source.verify, Web: web.Config{RequireSecret: true}, Authorize: func(_ context.Context, a shared.AccessRequest) error {
		if a.Topic == "private" && !strings.HasSuffix(a.Secret.Reveal(), " 1") {
			return shared.ErrForbidden
		}
		return nil
	}})
	if err := es.RegisterChannel(w.EntitySync, "private"); err != nil {
		t.Fatal(err)
	}
	c := w.dial(client.Options{SecretFunc: source.next})
	if err := hear(t, c, "private", client.TopicOptions{}).ends(); !errors.Is(err, shared.ErrForbidden) {
		t.Errorf("it ended with %v", err)
	}
}

const (
	subscribeTopic = `{"action":"subscribe","ref":%d,"body":[{"topic":"news"%s}]}`
	eventFrame     = `{"action":"event","body":{"topic":"news","context":["news"],"event":{"specversion":"1.0","id":%q,"source":%q,"type":"t","data":%d}}}`
)

func event(id, source string, data int) string { return fmt.Sprintf(eventFrame, id, source, data) }

// Orders of frames that a real server has seldom.
func TestFramesOfTopics(t *testing.T) {
	c, server := dialScript(t, client.Options{})
	e := hear(t, c, "news", client.TopicOptions{Exact: true})
	server.hears(fmt.Sprintf(subscribeTopic, 1, `,"exact":true`))
	server.says(event("0", "/s", 0), ack(1), event("1", "/s", 1), event("1", "/s", 2), event("1", "/other", 3),
		`{"action":"gap","body":{"topic":"news"}}`, `{"action":"gap","body":{"topic":"nothing"}}`, event("2", "/s", 4))
	e.wants("news [news] 1", "news [news] 3", "gap news 0", "news [news] 4")

	wide := hear(t, c, "news", client.TopicOptions{}) // hears more, from the same place on
	server.hears(fmt.Sprintf(subscribeTopic, 2, ""))
	server.says(event("3", "/s", 5), ack(2), event("4", "/s", 6))
	e.wants("news [news] 5", "news [news] 6")
	wide.wants("news [news] 5", "news [news] 6")

	server.says(`{"action":"unsubscribed","body":{"topic":"news","code":"unavailable","message":""}}`)
	server.hears(fmt.Sprintf(subscribeTopic, 3, `,"after":"4"`))
	server.says(event("5", "/s", 7), ack(3), event("4", "/s", 6), event("6", "/s", 8))
	e.wants("news [news] 8")
	wide.wants("news [news] 8")

	done := make(chan error)
	go func() { done <- c.Publish(context.Background(), "news", json.RawMessage("1")) }()
	server.hears(`{"action":"publish","ref":4,"body":{"topic":"news","data":1}}`)
	server.says(`{"action":"error","ref":4,"body":{"topic":"news","code":"unavailable","message":""}}`)
	if err := <-done; !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("Publish returned %v", err)
	}

	server.says(`{"action":"unsubscribed","body":{"topic":"news","code":"forbidden","message":""}}`)
	for _, ended := range []ear{e, wide} {
		if err := ended.ends(); !errors.Is(err, shared.ErrForbidden) {
			t.Errorf("it ended with %v", err)
		}
	}
	e.sub.Close() // of which the server need not be told
	e = hear(t, c, "news", client.TopicOptions{})
	server.hears(fmt.Sprintf(subscribeTopic, 5, ""))
	server.says(ack(5), event("1", "/s", 9))
	e.wants("news [news] 9")

	go func() { done <- c.Publish(context.Background(), "news", nil) }()
	server.hears(`{"action":"publish","ref":6,"body":{"topic":"news"}}`)
	server.conn.Close()
	if err := <-done; !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("Publish returned %v", err)
	}
}
