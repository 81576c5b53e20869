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

	// heardAtOnce and dueAtOnce are how many sessions are asked about at the same time, because
	// of a call of Hear and because of the period. Neither waits for the other.
	heardAtOnce, dueAtOnce = 64, 16

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

// Hear has all sessions asked about their subscriptions to a topic, below it, and above it,
// which hear it as well; "*" is all.
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
	var work sync.WaitGroup
	defer work.Wait()
	if r.config.Every > 0 {
		work.Go(r.askInTurn)
	}
	asking := newAsking(heardAtOnce)
	defer asking.wait()
	for {
		select {
		case <-r.config.Leaving.Done():
			return
		case <-r.news:
			r.round(asking, r.take(), func(Session) bool { return true })
		}
	}
}

// askInTurn makes the rounds of the period.
func (r *Rounds) askInTurn() {
	ticker := time.NewTicker(max(r.config.Every/parts, 1))
	defer ticker.Stop()
	asking := newAsking(dueAtOnce)
	defer asking.wait()
	for part := rand.Uint64N(parts); ; part++ { //nolint:gosec // nodes begin with different parts: no secret
		select {
		case <-r.config.Leaving.Done():
			return
		case <-ticker.C:
			r.round(asking, isAny, func(s Session) bool { return s.Number()%parts == part%parts })
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
		// A subscription above what was named hears that as well.
		return slices.ContainsFunc(waiting, func(named shared.Topic) bool { return named.Covers(topic) || topic.Covers(named) })
	}
}

func isAny(shared.Topic) bool { return true }

// asking is the sessions that are being asked about. A slow answer holds up no later round, until
// all places are taken.
type asking struct {
	places chan struct{}
	work   sync.WaitGroup
}

func newAsking(places int) *asking { return &asking{places: make(chan struct{}, places)} }

func (a *asking) wait() { a.work.Wait() }

// round begins to ask about the sessions of the round.
func (r *Rounds) round(a *asking, about func(shared.Topic) bool, isInRound func(Session) bool) {
	for _, s := range r.config.Sessions() {
		if !isInRound(s) {
			continue
		}
		select {
		case <-r.config.Leaving.Done():
			return
		case a.places <- struct{}{}:
		}
		a.work.Go(func() {
			defer func() { <-a.places }()
			s.Reconsider(about)
		})
	}
}
