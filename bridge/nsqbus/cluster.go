package nsqbus

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/internal/echo"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// broker is one nsqd, as this node knows it.
type broker struct {
	addr      string
	static    bool // in Config.Addrs: it is never forgotten
	publisher *publisher
	settling  time.Duration // for how long it is unproven after it was found

	ctx    context.Context // ends when it is forgotten, and with the bus
	forget context.CancelFunc

	// The fields below are guarded by Bus.mu.

	started    bool                         // the publisher runs
	live       int                          // subscriptions on it
	said       int                          // the last count of failures in a row that was logged
	down       time.Time                    // since when live is 0
	subscribed map[*subscription]time.Time  // when each was first subscribed here
	states     map[*subscription]echo.State // the state of each here
	listedBy   map[string]bool              // each nsqlookupd whose last answer listed it
	listed     time.Time                    // since when any lists it; zero while none does
	unlisted   time.Time                    // since when none lists it
}

// cluster is every nsqd that a node knows, guarded by Bus.mu.
type cluster struct {
	brokers   []*broker
	found     int             // how many brokers are not static
	answering map[string]bool // each nsqlookupd that answered when last asked
	overflow  sparing.Counter
	news      []func(*slog.Logger) // log lines to write once Bus.mu is free
}

// maxFound is how many nsqd a node takes from nsqlookupd, beside the static ones. Each
// costs a goroutine, and attempts to connect for each topic. Any program that reaches
// an nsqlookupd can register nsqd with it.
const maxFound = 100

// add makes a broker known, and subscribes every topic on it. The caller holds
// b.mu, or the bus is not shared yet.
func (b *Bus) add(addr string, static bool) *broker {
	if br := b.broker(addr); br != nil {
		return br
	}
	wait := b.config.LookupInterval
	br := &broker{
		addr:       addr,
		static:     static,
		publisher:  newPublisher(addr, b.config),
		settling:   2*wait + rand.N(wait), //nolint:gosec // jitter is no secret
		down:       time.Now(),
		subscribed: make(map[*subscription]time.Time),
		states:     make(map[*subscription]echo.State),
		listedBy:   make(map[string]bool),
	}
	br.ctx, br.forget = context.WithCancel(b.ctx)
	b.cluster.brokers = append(b.cluster.brokers, br)
	for _, sub := range b.subscriptions {
		b.work.Go(func() { sub.run(br) })
	}
	return br
}

func (b *Bus) broker(addr string) *broker {
	for _, br := range b.cluster.brokers {
		if br.addr == addr {
			return br
		}
	}
	return nil
}

// remove forgets a broker, and ends all that runs for it. The caller holds b.mu.
func (b *Bus) remove(br *broker) {
	br.forget()
	b.cluster.found--
	b.cluster.brokers = slices.DeleteFunc(b.cluster.brokers, func(o *broker) bool { return o == br })
	b.healthy.CompareAndSwap(br, nil)
}

func (b *Bus) subscribed(br *broker, sub *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	br.live++
	br.said = 0
	if !b.closed {
		b.startPublisher(br) // for echoes
	}
	if _, before := br.subscribed[sub]; !before {
		br.subscribed[sub] = time.Now()
	}
}

// become sets the state of a subscription on a broker, and returns its earlier state.
func (b *Bus) become(br *broker, sub *subscription, now echo.State) (was echo.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was, br.states[sub] = br.states[sub], now
	return was
}

// shouldLog picks which failures in a row are logged: the 1st, 2nd, 4th, 8th …, and each
// only for the topic that fails so often first. An nsqd is gone for all topics at once,
// and may be gone for days.
func (b *Bus) shouldLog(br *broker, failures int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if failures <= br.said || !sparing.Says(uint64(failures)) { //nolint:gosec // a count
		return false
	}
	br.said = failures
	return true
}

func (b *Bus) unsubscribed(br *broker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if br.live--; br.live == 0 {
		br.down = time.Now()
	}
}

var errNoneFound = errors.New("no nsqd has been found yet")

// publishOrder returns the brokers to publish to, in the order in which to try
// them, and starts their publishers.
func (b *Bus) publishOrder(topic string) ([]*broker, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, shared.ErrClosed
	}
	b.discover()
	sub, last := b.subscriptions[topic], b.healthy.Load()
	var ranked [ranks][]*broker
	for _, br := range b.cluster.brokers {
		r := br.rank(sub, time.Now())
		if r == unfit {
			continue
		}
		b.startPublisher(br)
		if br == last {
			ranked[r] = slices.Insert(ranked[r], 0, br)
		} else {
			ranked[r] = append(ranked[r], br)
		}
	}
	brokers := slices.Concat(ranked[:]...)
	if len(brokers) == 0 {
		return nil, errNoneFound
	}
	return brokers, nil
}

// startPublisher starts the broker's publisher unless it runs. The caller holds b.mu.
func (b *Bus) startPublisher(br *broker) {
	if !br.started {
		br.started = true
		b.work.Go(func() { br.publisher.run(br.ctx) })
	}
}

// rank says how good a broker is for publishing.
type rank int

const (
	settled   rank = iota
	unproven       // other nodes may not have found it yet: they learn of changes seconds late
	unreached      // this node is not subscribed on it, so it is probably down, or it is silent
	ranks
	unfit rank = -1
)

// rank returns the broker's rank for the topic of sub, which is nil if this node
// does not subscribe to the topic. The caller holds Bus.mu.
//
// An unproven broker is better than none, because a node that finds it later repairs
// all that it watches. A found broker is unfit until this node itself has subscribed
// there: nsqd keeps the messages of a topic without a channel for the first channel,
// and no other channel would get them.
func (br *broker) rank(sub *subscription, now time.Time) rank {
	since := br.listed
	if sub != nil && !br.static {
		first, ok := br.subscribed[sub]
		if !ok {
			return unfit
		}
		if first.After(since) {
			since = first
		}
	}
	switch {
	case sub != nil && (br.live == 0 || br.states[sub] == echo.Silent):
		return unreached
	case !br.static && (br.listed.IsZero() || now.Sub(since) < br.settling):
		return unproven
	}
	return settled
}

// heard takes the list of nsqd that an nsqlookupd answered with.
func (b *Bus) heard(lookupd string, addrs []string) {
	b.update(func(c *cluster) {
		if c.answering == nil {
			c.answering = make(map[string]bool)
		}
		c.answering[lookupd] = true
		for _, br := range c.brokers {
			delete(br.listedBy, lookupd)
		}
		for _, addr := range addrs {
			if br := b.find(addr); br != nil {
				br.listedBy[lookupd] = true
			}
		}
	})
}

// unheard notes that an nsqlookupd gave no answer, or no valid one.
func (b *Bus) unheard(lookupd string) {
	b.update(func(c *cluster) { delete(c.answering, lookupd) })
}

// update changes what is known of the cluster, reviews the brokers, and logs the news.
func (b *Bus) update(change func(*cluster)) {
	for _, say := range b.updated(change) {
		say(b.config.Logger) // without the lock
	}
}

// updated is update but for the logging: it returns the lines to log.
func (b *Bus) updated(change func(*cluster)) []func(*slog.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	change(&b.cluster)
	if len(b.cluster.answering) > 0 { // without any answer the brokers stay as they are
		b.review(time.Now())
	}
	news := b.cluster.news
	b.cluster.news = nil
	return news
}

// find returns the broker at addr. It adds a new one, or returns nil if there are too
// many. The caller holds b.mu.
func (b *Bus) find(addr string) *broker {
	if br := b.broker(addr); br != nil {
		return br
	}
	c := &b.cluster
	if c.found >= maxFound {
		if n, say := c.overflow.Again(); say {
			c.say(func(to *slog.Logger) {
				to.Warn("ignoring an nsqd: nsqlookupd names more than the limit",
					slog.String("addr", addr), slog.Int("limit", maxFound), slog.Uint64("so_far", n))
			})
		}
		return nil
	}
	c.found++
	c.say(func(to *slog.Logger) { to.Info("found an nsqd", slog.String("addr", addr)) })
	return b.add(addr, false)
}

func (c *cluster) say(news func(*slog.Logger)) { c.news = append(c.news, news) }

// letGoAfter is for how many LookupIntervals an nsqd must have been unreachable and
// unlisted before it is forgotten. An nsqd that restarts is both for a while, and comes
// back. After a restart of nsqlookupd an nsqd is unlisted until it registers again: it
// looks after its nsqlookupd every 15 s.
const letGoAfter = 12

// review notes which brokers are listed, and forgets those that are gone. The caller
// holds b.mu, and knows that some nsqlookupd answers.
func (b *Bus) review(now time.Time) {
	gone := now.Add(-letGoAfter * b.config.LookupInterval)
	for _, br := range slices.Clone(b.cluster.brokers) {
		maps.DeleteFunc(br.listedBy, func(lookupd string, _ bool) bool { return !b.cluster.answering[lookupd] })
		switch {
		case len(br.listedBy) > 0:
			if br.listed.IsZero() {
				br.listed, br.unlisted = now, time.Time{}
			}
		case br.unlisted.IsZero():
			br.listed, br.unlisted = time.Time{}, now
		case !br.static && br.live == 0 && br.unlisted.Before(gone) && br.down.Before(gone):
			b.cluster.say(func(to *slog.Logger) {
				to.Info("forgot an nsqd: no nsqlookupd lists it, and it cannot be reached", slog.String("addr", br.addr))
			})
			b.remove(br)
		}
	}
}
