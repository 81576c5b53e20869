package nsqbus

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/entity-sync/entity-sync/internal/sparing"
)

// A node misses the messages on a new nsqd until it has found the nsqd, and repairs the
// loss then. The beats of other nodes tell it of the loss within six seconds in any case,
// so that asking every five is often enough. It is cheap: one small request for each node
// and nsqlookupd.
const (
	defaultLookupInterval = 5 * time.Second
	minLookupInterval     = 10 * time.Millisecond
)

// discover starts asking each nsqlookupd, when it is first called. The caller holds b.mu.
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
				b.config.Logger.Warn("no answer from nsqlookupd; going on with the nsqd that are known",
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

// untilNextPoll is random, so that nodes that start together do not ask together.
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
