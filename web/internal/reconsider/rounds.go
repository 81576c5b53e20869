// Package reconsider has the application asked again whether clients may still hear the topics
// that they are subscribed to: when the application says so, and once in a period.
package reconsider

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// Session is a session that may have subscriptions to topics.
type Session interface {
	// Number decides in which part of the period the session has its turn.
	Number() uint64

	// Reconsider asks the application about the subscriptions to the topics for which about
	// is true, and ends those that the application does not allow.
	Reconsider(about func(shared.Topic) bool)
}

// Config configures Rounds. All fields but Every are required.
type Config struct {
	// Every is the period within which each subscription is asked about. Zero means never.
	Every time.Duration

	// Start runs work in a goroutine for which the node's end waits, unless the node closes.
	Start func(work func()) bool

	// Leaving ends when the node closes.
	Leaving context.Context

	// Sessions returns the sessions that have had a subscription to a topic.
	Sessions func() []Session
}

const (
	// parts is how many parts a period has: so the application is asked steadily, and not
	// about all subscriptions at once.
	parts = 64

	// atOnce is how many sessions are asked about at the same time.
	atOnce = 16

	// maxWaiting is how many topics may wait for a round. If there are more, the round is
	// about all topics.
	maxWaiting = 1000
)

// Rounds are one node's. The methods may be called from any goroutine, and return at once.
type Rounds struct {
	config Config
	heard  atomic.Uint64

	mu      sync.Mutex // guards what follows
	begun   bool       // a goroutine makes rounds
	waiting map[shared.Topic]struct{}
	news    chan struct{} // has a value when waiting has something for that goroutine
}

// New returns Rounds that have not begun.
func New(c Config) *Rounds {
	return &Rounds{config: c, waiting: make(map[shared.Topic]struct{}), news: make(chan struct{}, 1)}
}

// Heard returns how often Hear was called. A right that the application gave before a call of
// Hear may have been withdrawn.
func (r *Rounds) Heard() uint64 { return r.heard.Load() }

// Hear has all sessions asked about their subscriptions at or below a topic; "*" is all.
func (r *Rounds) Hear(topic shared.Topic) {
	r.heard.Add(1) // before the round, which misses a subscription that is being asked about just now
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun {
		return
	}
	if len(r.waiting) >= maxWaiting {
		clear(r.waiting)
		topic = shared.Everything
	}
	r.waiting[topic] = struct{}{}
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// Begin is called when a session is about to have its first subscription to a topic. Without
// one there is nothing to ask about.
func (r *Rounds) Begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun {
		r.begun = r.config.Start(r.run)
	}
}

func (r *Rounds) run() {
	var part uint64
	var tick <-chan time.Time // nil where there is no period
	if r.config.Every > 0 {
		ticker := time.NewTicker(max(r.config.Every/parts, 1))
		defer ticker.Stop()
		tick = ticker.C
		part = rand.Uint64N(parts) //nolint:gosec // nodes begin with different parts: no secret
	}
	for {
		select {
		case <-r.config.Leaving.Done():
			return
		case <-r.news:
			r.round(r.take(), func(Session) bool { return true })
		case <-tick:
			part++
			r.round(isAny, func(s Session) bool { return s.Number()%parts == part%parts })
		}
	}
}

// take returns whether a subscription is to be asked about.
func (r *Rounds) take() (about func(shared.Topic) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := slices.Collect(maps.Keys(r.waiting))
	clear(r.waiting)
	if slices.Contains(waiting, shared.Everything) {
		return isAny
	}
	return func(topic shared.Topic) bool {
		return slices.ContainsFunc(waiting, func(above shared.Topic) bool { return above.Covers(topic) })
	}
}

func isAny(shared.Topic) bool { return true }

// round asks about the sessions of the round, some at once, and waits for the answers.
func (r *Rounds) round(about func(shared.Topic) bool, isInRound func(Session) bool) {
	places := make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, s := range r.config.Sessions() {
		if !isInRound(s) {
			continue
		}
		select {
		case <-r.config.Leaving.Done():
			return
		case places <- struct{}{}:
		}
		asking.Go(func() {
			defer func() { <-places }()
			s.Reconsider(about)
		})
	}
}
