// Package echo notices that a subscription is silent: the broker acknowledges messages and
// does not deliver them. The connection gives no sign of that. The topic may be paused, or
// deleted under the subscription, or a host name may lead publications to another broker
// than the subscription.
package echo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// When an Ear has heard nothing for a while, it publishes an echo and expects to hear it. A
// subscription is silent when several echoes in a row were acknowledged and none came back.
// Each echo has time of its own to come back after its acknowledgement. So neither a node nor
// a broker that is short of processor time is taken for a silent one.
//
// All nodes hear the echo of one. So where several nodes hear a topic, or the topic is busy,
// few of them have to ask.
const (
	quiet    = time.Second            // a node asks after half to all of it without any message
	round    = 500 * time.Millisecond // the time for an echo to come back, after its acknowledgement
	rounds   = 4                      // lost echoes that make the subscription silent, if nothing else is heard
	drowned  = 20                     // and if other messages are heard: a flood may delay an echo, or cost it
	ownEvery = 10 * time.Second       // the longest time without an echo, even if messages are heard
	refused  = 5 * time.Second        // the wait for the next echo after one that was not acknowledged
)

// Patience is for how long at most a silent subscription is taken for a live one, if the node
// and the broker are running.
const Patience = 2*quiet + rounds*round

// ErrSilent says that a broker acknowledges messages and does not deliver them.
var ErrSilent = errors.New("this node's messages are acknowledged and do not come back")

// Ear listens for the echoes of one subscribed connection.
type Ear struct {
	body    []byte
	own     []byte                              // the beginning of body, and of no other connection's echo
	publish func(context.Context, []byte) error // returns nil once the broker has acknowledged
	heard   atomic.Uint64                       // messages, including echoes of other nodes
	back    chan struct{}                       // has a value when an echo has come back
}

// begins is the beginning of every echo, and of no notification.
var begins = []byte(`{"echo":"`)

// New returns an Ear for a subscription to the topic of entity, which may be one of several
// on the topic. A node that does not know echoes reads one as a beat, from a name that
// publishes nothing.
func New(node string, entity shared.EntityType, publish func(context.Context, []byte) error) *Ear {
	own := fmt.Appendf(nil, `%s%s",`, begins, rand.Text())
	return &Ear{
		body:    fmt.Appendf(bytes.Clone(own), `"entity":%q,"from":%q,"seq":1}`, string(entity), node),
		own:     own,
		publish: publish,
		back:    make(chan struct{}, 1),
	}
}

// Hear takes each message of the connection. It reports whether the message is an echo, of
// any node, which listeners do not get.
func (e *Ear) Hear(body []byte) (isEcho bool) {
	e.heard.Add(1)
	if !bytes.HasPrefix(body, begins) {
		return false
	}
	if bytes.HasPrefix(body, e.own) {
		select {
		case e.back <- struct{}{}:
		default: // one is as good as two
		}
	}
	return true
}

// Listen asks until ctx ends, or until the subscription is silent and Listen returns
// ErrSilent. It asks at once, and calls hears each time that an echo has come back.
func (e *Ear) Listen(ctx context.Context, hears func()) error {
	for ctx.Err() == nil {
		if err := e.ask(ctx); err != nil {
			return err
		}
		hears()
		e.rest(ctx)
	}
	return ctx.Err()
}

// ask publishes echoes until one comes back.
func (e *Ear) ask(ctx context.Context) error {
	select {
	case <-e.back: // the answer to an earlier question
	default:
	}
	before := e.heard.Load()
	for unheard := 0; ; {
		wait := round
		if err := e.publish(ctx, e.body); err == nil {
			unheard++
		} else { // nothing can be concluded
			unheard, before, wait = 0, e.heard.Load(), refused
		}
		select {
		case <-e.back:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if unheard >= drowned || unheard >= rounds && e.heard.Load() == before {
			return ErrSilent
		}
	}
}

// rest waits until it is time to ask again.
func (e *Ear) rest(ctx context.Context) {
	for end := time.Now().Add(ownEvery); time.Now().Before(end); {
		before := e.heard.Load()
		select {
		case <-time.After(quiet/2 + mathrand.N(quiet/2)): //nolint:gosec // jitter is no secret
		case <-ctx.Done():
			return
		}
		if e.heard.Load() == before {
			return
		}
	}
}
