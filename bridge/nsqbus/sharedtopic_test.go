package nsqbus_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
)

// hearing is a listener that remembers.
type hearing struct {
	mu     sync.Mutex
	bodies []string
	lives  int
}

var _ bus.Listener = (*hearing)(nil)

func (h *hearing) Message(body []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bodies = append(h.bodies, string(body))
}

func (h *hearing) Live() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lives++
}

func (h *hearing) Lost(error) {}

func (h *hearing) heard() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.bodies, " ")
}

func (h *hearing) live() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lives
}

// Each entity type hears its own, over one connection for all of them.
func TestASharedTopicIsOneSubscription(t *testing.T) {
	nsqd := newNSQD(t)
	b := openWith(t, nsqbus.Config{Addrs: []string{nsqd.addr}, Prefix: "my.", SharedTopic: "changes"})
	items, users, late := &hearing{}, &hearing{}, &hearing{}
	subscribe(t, b, "items", items)
	subscribe(t, b, "users", users)
	nsqd.untilSubscribed(t, 1)
	testkit.Until(t, "both are live", func() bool { return items.live() == 1 && users.live() == 1 })

	// Nobody listens to the third: it is no error. Later somebody does.
	nsqd.deliver(`{"entity":"items","id":"1"}`, `{"entity":"late","id":"2"}`, `{"id":"3","entity":"users"}`)
	testkit.Until(t, "users heard", func() bool { return users.heard() != "" })
	subscribe(t, b, "late", late)
	if got := late.live(); got != 1 {
		t.Errorf("an entity type added to a live topic was live %d times when Subscribe returned, want once", got)
	}
	nsqd.deliver(`{"entity":"late","id":"4"}`)
	testkit.Until(t, "the late one heard", func() bool { return late.heard() != "" })

	for name, tt := range map[string]struct {
		got  *hearing
		want string
	}{
		"items": {items, `{"entity":"items","id":"1"}`},
		"users": {users, `{"id":"3","entity":"users"}`},
		"late":  {late, `{"entity":"late","id":"4"}`},
	} {
		if got := tt.got.heard(); got != tt.want || tt.got.live() != 1 {
			t.Errorf("%s heard %s and was live %d times, want %s and once", name, got, tt.got.live(), tt.want)
		}
	}
	if topics := nsqd.untilSubscribed(t, 1); len(topics) != 1 || topics[0] != "my.changes" {
		t.Errorf("subscribed to %q, want my.changes once", topics)
	}
}

func TestRubbishOnASharedTopicIsIgnoredAndLoggedSparingly(t *testing.T) {
	nsqd := newNSQD(t)
	logged := &record{}
	b := openWith(t, nsqbus.Config{Addrs: []string{nsqd.addr}, SharedTopic: "changes", Logger: slog.New(logged)})
	items := &hearing{}
	subscribe(t, b, "items", items)
	nsqd.untilSubscribed(t, 1)
	for range 3 {
		nsqd.deliver("rubbish", `{}`, `{"entity":5}`, `["items"]`, "\x00\xff", `{"entity":""}`)
	}
	nsqd.deliver(`{"entity":"nobody's","id":"1"}`, `{"entity":"items","id":"1"}`)
	testkit.Until(t, "the good one is heard", func() bool { return items.heard() != "" })
	if got := items.heard(); got != `{"entity":"items","id":"1"}` {
		t.Errorf("heard %s", got)
	}
	if got := fmt.Sprint(logged.values("so_far")); got != "[1 2 4 8 16]" {
		t.Errorf("18 times rubbish was logged as %s, want the 1st, 2nd, 4th, 8th, 16th", got)
	}
}

// A body that does not say what it is for would reach nobody, silently.
func TestPublishOnASharedTopicWantsTheEntityInTheBody(t *testing.T) {
	nsqd := newNSQD(t)
	b := openWith(t, nsqbus.Config{Addrs: []string{nsqd.addr}, SharedTopic: "changes"})
	for body, ok := range map[string]bool{
		`{"entity":"items","id":"1"}`: true,
		`{"entity":"users","id":"1"}`: false,
		`{"id":"1"}`:                  false,
		`["items"]`:                   false,
		`items`:                       false,
		``:                            false,
	} {
		err := b.Publish(t.Context(), "items", []byte(body))
		if (err == nil) != ok {
			t.Errorf("Publish(%s) for items returned %v", body, err)
		}
		if errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("Publish(%s) returned %v, as if it could work another time", body, err)
		}
	}
	if got := fmt.Sprint(nsqd.all()); got != "[PUB changes]" {
		t.Errorf("nsqd got %s, want the good one alone", got)
	}
}

// Several listeners of one entity type hear everything each. With a subscription
// each, NSQ would give every message to one of them.
func TestListenersOfOneEntityTypeHearEverythingEach(t *testing.T) {
	for name, sharedTopic := range map[string]string{"a topic for each entity type": "", "a shared topic": "changes"} {
		t.Run(name, func(t *testing.T) {
			nsqd := newNSQD(t)
			b := openWith(t, nsqbus.Config{Addrs: []string{nsqd.addr}, SharedTopic: sharedTopic})
			one, two := &hearing{}, &hearing{}
			subscribe(t, b, "items", one)
			nsqd.untilSubscribed(t, 1)
			subscribe(t, b, "items", two)
			testkit.Until(t, "both are live", func() bool { return one.live() == 1 && two.live() == 1 })
			nsqd.deliver(`{"entity":"items","id":"1"}`)
			testkit.Until(t, "both heard", func() bool { return one.heard() != "" && one.heard() == two.heard() })
			if topics := nsqd.untilSubscribed(t, 1); len(topics) != 1 {
				t.Errorf("%d subscriptions, want one", len(topics))
			}
		})
	}
}

func subscribe(t *testing.T, b *nsqbus.Bus, entity shared.EntityType, l bus.Listener) {
	t.Helper()
	if err := b.Subscribe(entity, l); err != nil {
		t.Fatal(err)
	}
}
