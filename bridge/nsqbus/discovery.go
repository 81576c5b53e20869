package nsqbus

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/entity-sync/entity-sync/internal/sparing"
)

// A node that has yet to find a new nsqd misses what is published there, and
// repairs it when it finds it; the beats of the others would tell it within six
// seconds. Asking every five keeps the two alike, and is cheap: one small
// request for each node and nsqlookupd.
const (
	defaultLookupInterval = 5 * time.Second
	minLookupInterval     = 10 * time.Millisecond
)

// discover starts to ask each nsqlookupd, once. The caller holds b.mu.
func (b *Bus) discover() {
	if b.discovering {
		return
	}
	b.discovering = true
	for _, addr := range b.config.LookupAddrs {
		b.work.Go(func() { b.poll(addr) })
	}
}

// poll asks one nsqlookupd again and again until the bus is closed.
func (b *Bus) poll(lookupd string) {
	var failures sparing.Counter
	for {
		addrs, err := lookup(b.ctx, lookupd)
		switch {
		case b.ctx.Err() != nil:
			return
		case err == nil:
			failures = sparing.Counter{}
			b.heard(lookupd, addrs)
		default:
			b.unheard(lookupd)
			if n, say := failures.Again(); say {
				b.config.Logger.Warn("no answer from nsqlookupd; going on with what nsqd are known",
					slog.String("addr", lookupd), slog.Uint64("failures", n), slog.Any("error", err))
			}
		}
		select {
		case <-time.After(b.untilNextPoll()):
		case <-b.ctx.Done():
			return
		}
	}
}

// untilNextPoll is random, so that nodes started together do not ask together.
// A node that knows no nsqd at all asks as often as it would try to connect.
func (b *Bus) untilNextPoll() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	longest := b.config.LookupInterval
	if len(b.cluster.brokers) == 0 {
		longest = min(longest, max(b.config.Reconnect, minLookupInterval))
	}
	return longest/2 + rand.N(longest/2) //nolint:gosec // jitter is no secret
}
