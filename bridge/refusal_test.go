package bridge_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/shared"
)

// refusesOld is a node whose handler refuses every key to the secret "old".
func refusesOld(t *testing.T, o bridge.EntityOptions) *node {
	t.Helper()
	n := newNode(t, &membus.Broker{})
	n.register(t, func(_ context.Context, _ shared.EntityKey, secret string) ([][]byte, error) {
		if secret == mark+"old" {
			return nil, shared.ErrForbidden
		}
		return [][]byte{[]byte(secret)}, nil
	}, o)
	return n
}

// newLateReader connects a client that reads when it is told to, and whose secret is "old".
func newLateReader(n *node, limit int) *reader {
	r := &reader{}
	r.Client = n.NewClient(r, bridge.ClientOptions{Secret: shared.NewSecret(mark + "old"), MaxSubscriptions: limit})
	return r
}

func (r *reader) subscribe(t *testing.T, k shared.EntityKey) {
	t.Helper()
	if err := r.Subscribe(k, withSnapshot); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// wantNext takes the next update and compares its kind, and its row if it has one.
func (r *reader) wantNext(t *testing.T, kind bridge.Kind, rows ...string) {
	t.Helper()
	u, _, ok := r.pop()
	if !ok {
		t.Fatal("nothing waits")
	}
	var got []string
	for _, row := range u.Rows {
		got = append(got, string(row))
	}
	if u.Kind != kind || !slices.Equal(got, rows) {
		t.Fatalf("kind %v with %q waits, want kind %v with %q", u.Kind, got, kind, rows)
	}
}

func (r *reader) wantNothing(t *testing.T) {
	t.Helper()
	if u, _, ok := r.pop(); ok {
		t.Errorf("kind %v waits, want nothing", u.Kind)
	}
}

func wantSubscribed(t *testing.T, n *node, r *reader, keys ...shared.EntityKey) {
	t.Helper()
	if st := n.Stats(); st.Subscriptions != len(keys) {
		t.Errorf("%d subscriptions are counted, want %d", st.Subscriptions, len(keys))
	}
	if got := r.Keys(); !slices.Equal(got, keys) {
		t.Errorf("it is subscribed to %v, want %v", got, keys)
	}
}

// A client is refused, and its secret changes before it is told: nothing of the old secret is
// left, and the subscription goes on.
func TestARefusalOfTheSecretBeforeIsTakenBack(t *testing.T) {
	for name, o := range map[string]bridge.EntityOptions{
		"each by itself": {},
		"in one scope":   {Scope: public},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := refusesOld(t, o)
				r := newLateReader(n, 1)
				r.subscribe(t, key)
				if got := n.Stats().Subscriptions; got != 0 {
					t.Errorf("%d subscriptions are counted of one who was refused", got)
				}
				if got := r.Keys(); !slices.Equal(got, []shared.EntityKey{key}) {
					t.Errorf("who was not told yet is subscribed to %v, as it knows", got)
				}
				r.SetSecret(mark + "new")
				synctest.Wait()
				r.wantNext(t, bridge.KindRows, mark+"new")
				r.wantNothing(t)
				wantSubscribed(t, n, r, key)
				if err := r.Subscribe(other, withSnapshot); !errors.Is(err, shared.ErrTooManySubscriptions) {
					t.Errorf("one more than the limit: %v", err)
				}
				n.notify(t, key)
				synctest.Wait()
				r.wantNext(t, bridge.KindRows, mark+"new")

				// It may be refused again.
				r.SetSecret(mark + "old")
				n.notify(t, key)
				synctest.Wait()
				r.wantNext(t, bridge.KindForbidden)
				r.wantNothing(t)
				r.subscribe(t, other) // in its place
				r.wantNext(t, bridge.KindForbidden)
				r.Close()
				if st := n.Stats(); st.Subscriptions != 0 || st.Stale != 0 || st.Clients != 0 || st.Views != 0 {
					t.Errorf("after it left: %+v", st)
				}
			})
		})
	}
}

// What was refused and told stays ended: the client knows, and asks again if it wants to.
func TestARefusalThatWasToldStays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := refusesOld(t, bridge.EntityOptions{})
		r := newLateReader(n, 1)
		r.subscribe(t, key)
		r.wantNext(t, bridge.KindForbidden)
		r.SetSecret(mark + "new")
		n.notify(t, key)
		synctest.Wait()
		r.wantNothing(t)
		wantSubscribed(t, n, r)
		r.subscribe(t, other)
		r.wantNext(t, bridge.KindRows, mark+"new")
		wantSubscribed(t, n, r, other)
	})
}

// A refused key takes its place among those that a client may watch until the client is told:
// the news is not lost for another key.
func TestARefusalIsNotLostForAnotherKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := refusesOld(t, bridge.EntityOptions{})
		r := newLateReader(n, 1)
		r.subscribe(t, key)
		if err := r.Subscribe(other, withSnapshot); !errors.Is(err, shared.ErrTooManySubscriptions) {
			t.Errorf("one more than the limit, as far as the client knows: %v", err)
		}
		r.wantNext(t, bridge.KindForbidden)
		r.subscribe(t, other)
		r.wantNext(t, bridge.KindForbidden)
	})
}

// The bus is lost while the refusal waits: the subscription that goes on is stale, and fresh
// when the bus is back.
func TestASubscriptionThatGoesOnIsStaleWhileTheBusIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var broker membus.Broker
		n := newNode(t, &broker)
		n.register(t, func(_ context.Context, _ shared.EntityKey, secret string) ([][]byte, error) {
			if secret == mark+"old" {
				return nil, shared.ErrForbidden
			}
			return [][]byte{[]byte(secret)}, nil
		}, bridge.EntityOptions{})
		r := newLateReader(n, 1)
		r.subscribe(t, key)
		broker.SetDown(true)
		synctest.Wait()
		if r.isStale() || n.Stats().Stale != 0 {
			t.Error("who is refused is told that it is stale")
		}
		r.SetSecret(mark + "new")
		synctest.Wait()
		if !r.isStale() || n.Stats().Stale != 1 {
			t.Error("whose subscription goes on is not told that the bus is lost")
		}
		broker.SetDown(false)
		time.Sleep(time.Minute)
		if r.isStale() || n.Stats().Stale != 0 {
			t.Error("it is not told that all is fresh")
		}
		r.wantNext(t, bridge.KindRows, mark+"new")
		r.wantNothing(t)
	})
}
