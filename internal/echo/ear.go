// Package echo notices that a subscription is silent: a broker acknowledges what is
// published, and does not hand it on. A connection that lives says nothing of that.
// A topic may be paused, or deleted under the subscription, or a name may lead
// publications to another broker than the subscription.
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

// An Ear asks when it has heard nothing for a while: it publishes an echo and expects
// to hear it. A subscription is silent when several echoes in a row were acknowledged
// and none came back. Each has time of its own after its acknowledgement, so that
// neither a node nor a broker that gets no processor is taken for a silent one.
//
// One node's echo is heard by all. So where several nodes hear a topic, or it is busy,
// few of them have to ask.
const (
	quiet    = time.Second            // without any message; a node asks after half to all of it
	round    = 500 * time.Millisecond // for an echo to come back, after its acknowledgement
	rounds   = 4                      // echoes without which the subscription is silent, where nothing else is heard
	drowned  = 20                     // and where others are heard: a flood may delay an echo, or cost it
	ownEvery = 10 * time.Second       // the longest without an echo, though others are heard
	refused  = 5 * time.Second        // from an echo that was not acknowledged to the next
)

// Patience is how long a subscription that is silent is taken for a live one at
// most, on a node and a broker that run.
const Patience = 2*quiet + rounds*round

// ErrSilent says that a broker acknowledges what is published, and does not hand it on.
var ErrSilent = errors.New("what this node publishes is acknowledged and does not come back")

// Ear listens for the echoes of one connection that is subscribed.
type Ear struct {
	body    []byte
	own     []byte                              // with which body begins, and no other does
	publish func(context.Context, []byte) error // returns nil once the broker has acknowledged
	heard   atomic.Uint64                       // messages, echoes of others among them
	back    chan struct{}                       // has a value when an echo has come back
}

// begins is how the bodies of all echoes begin, and those of no notification.
var begins = []byte(`{"echo":"`)

// New returns an Ear for a subscription to the topic of entity, which may be one of
// several on it. An echo is a beat from a name that announces nothing, for nodes that
// know of no echoes.
func New(node string, entity shared.EntityType, publish func(context.Context, []byte) error) *Ear {
	own := fmt.Appendf(nil, `%s%s",`, begins, rand.Text())
	return &Ear{
		body:    fmt.Appendf(bytes.Clone(own), `"entity":%q,"from":%q,"seq":1}`, string(entity), node),
		own:     own,
		publish: publish,
		back:    make(chan struct{}, 1),
	}
}

// Hear takes each message that the connection brings. It reports whether the message
// is an echo, of any node, which means nothing to listeners.
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

// Listen asks until the subscription is silent, and returns ErrSilent then, or until
// ctx ends. It asks at once, and calls hears each time when the answer has come.
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
