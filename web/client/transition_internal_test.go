package client

import (
	"fmt"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// Who is woken by a change of the connection's state finds all keys in it, and who is
// woken by a key's finds the connection in it.
func TestNobodySeesHalfATransition(t *testing.T) {
	c := &Client{entries: make(map[shared.EntityKey]*entry)}
	c.setState(Status{State: Live})
	var subs []*Subscription
	for i := range 2000 {
		s := c.Subscribe(shared.EntityKey{Entity: "items", ID: fmt.Sprint(i)})
		s.entry.about(wire.Reply{Action: wire.ActionUpdate, Version: "1", Rows: [][]byte{[]byte(`{}`)}})
		subs = append(subs, s)
	}
	c.setState(Status{State: Live})
	look := func(woken <-chan struct{}, differ chan<- int) {
		<-woken
		n := 0
		s, _ := c.Status()
		for _, sub := range subs {
			if u, _ := sub.Latest(); u.State != s.State {
				n++
			}
		}
		differ <- n
	}
	for _, state := range []State{Offline, Live, Stale, Offline, Stale, Live} {
		_, connection := c.Status()
		_, first := subs[0].Latest()
		_, last := subs[len(subs)-1].Latest()
		differ := make(chan int)
		for _, woken := range []<-chan struct{}{connection, first, last} {
			go look(woken, differ)
		}
		c.setState(Status{State: state})
		for range 3 {
			if n := <-differ; n > 0 {
				t.Errorf("%s: %d keys are in another state", state, n)
			}
		}
	}
}
