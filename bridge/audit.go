package bridge

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/internal/sparing"
)

const (
	// maxPublishers bounds whom an entity type's auditor remembers. Restarted
	// nodes come under a new name; names not heard for longest are forgotten.
	maxPublishers = 1024

	// maxAhead bounds the numbers remembered beyond a hole. So many cannot have
	// overtaken a message: it counts as lost at once.
	maxAhead = 4096
)

// auditor notices that notifications of one entity type were lost. Each node
// numbers what it publishes and says at intervals what number it has come to;
// when a number stays out for the grace period, everything watched is looked at
// again. Messages without a number, from other programs, are not audited.
type auditor struct {
	entity *entity
	lines  sparing.Period

	mu         sync.Mutex // taken with no other lock held
	publishers map[string]*numbers
	timer      *time.Timer // runs while a hole is within its grace
	orphans    int         // publishers forgotten while in doubt, not settled yet
	orphaned   uint64      // the last fetch that had begun when the newest of their doubts arose
	closed     bool
}

// numbers is what was heard of one publisher.
type numbers struct {
	through  uint64              // every number up to this is accounted for
	reached  uint64              // the highest number known to have been used
	ahead    map[uint64]struct{} // numbers heard beyond through
	stranger bool                // first heard of in the middle of its count; nobody has looked again since
	heard    time.Time           // when anything was heard last

	// The doubt that is within its grace: numbers up to upTo are missing.
	since time.Time // when it arose; zero without one
	upTo  uint64
	fetch uint64 // the number of the last fetch that had begun then
}

func (n *numbers) inDoubt() bool { return n.stranger || n.through != n.reached }

// doubt starts the grace of whatever is missing now.
func (n *numbers) doubt(now time.Time, fetch uint64) {
	n.since, n.upTo, n.fetch = now, n.reached, fetch
}

// hear takes the number of a message or a beat.
func (a *auditor) hear(note notification) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, fetch := time.Now(), a.entity.bridge.counts.sequence.Load()
	n := a.publishers[note.From]
	if n != nil && n.isFarBehind(note) {
		n = nil
	}
	if n == nil {
		n = a.remember(note, now)
	}
	n.heard = now
	n.take(note)
	if !n.inDoubt() {
		n.since = time.Time{}
		return
	}
	// Where messages overtake each other all the time there is always some hole.
	// One that has closed must not lend its age to the next.
	if n.since.IsZero() || n.through >= n.upTo && !n.stranger {
		n.doubt(now, fetch)
	}
	a.checkIn(a.entity.bridge.config.Grace)
}

// isFarBehind reports whether a message's number is so far below what was heard
// of its publisher that somebody else must have spoken in its name, with numbers
// that it has not come to.
func (n *numbers) isFarBehind(note notification) bool {
	return !note.isBeat() && n.through > maxAhead && note.Seq < n.through-maxAhead
}

// take accounts for a number.
func (n *numbers) take(note notification) {
	n.reached = max(n.reached, note.Seq)
	if note.isBeat() || note.Seq <= n.through {
		return
	}
	switch {
	case note.Seq == n.through+1: // as nearly always
		n.through++
		n.advance()
	case len(n.ahead) < maxAhead:
		if n.ahead == nil {
			n.ahead = make(map[uint64]struct{})
		}
		n.ahead[note.Seq] = struct{}{}
	}
}

// advance moves through over the numbers that were heard ahead of it.
func (n *numbers) advance() {
	for {
		if _, ok := n.ahead[n.through+1]; !ok {
			return
		}
		n.through++
		delete(n.ahead, n.through)
	}
}

// settle ends the doubt whose grace is over and returns how many numbers were
// missing. What is missing since then stays in doubt, with a grace of its own.
func (n *numbers) settle() (lost uint64) {
	if n.stranger {
		n.stranger = false
		return 0
	}
	lost = n.upTo - n.through
	for number := range n.ahead {
		if number <= n.upTo {
			lost--
			delete(n.ahead, number)
		}
	}
	n.through = n.upTo
	n.advance()
	return lost
}

// remember adds the publisher of note, in place of the one not heard for longest
// where there are too many.
func (a *auditor) remember(note notification, now time.Time) *numbers {
	if _, known := a.publishers[note.From]; !known && len(a.publishers) >= maxPublishers {
		oldest := ""
		for name, n := range a.publishers {
			if oldest == "" || n.heard.Before(a.publishers[oldest].heard) {
				oldest = name
			}
		}
		if n := a.publishers[oldest]; !n.since.IsZero() {
			a.orphans++
			a.orphaned = max(a.orphaned, n.fetch)
		}
		delete(a.publishers, oldest)
	}
	if a.publishers == nil {
		a.publishers = make(map[string]*numbers)
	}
	n := &numbers{heard: now}
	if note.isBeat() || note.Seq > 1 {
		// It has said things before. Whether they were lost, or said before this
		// node joined, cannot be known.
		n.stranger, n.through = true, note.Seq
	}
	a.publishers[strings.Clone(note.From)] = n // what is kept is not to keep the message
	return n
}

// check looks for doubts older than the grace period. What they hide was
// announced before they arose, so a view fetched since then shows it.
func (a *auditor) check() {
	lost, strangers, fetch := a.overdue(time.Now())
	if lost == 0 && strangers == 0 {
		return
	}
	b := a.entity.bridge
	level, what := slog.LevelInfo, "a node has begun to announce; looking once at everything watched"
	if lost > 0 {
		what = "notifications were missed; looking at everything watched again"
		b.counts.resyncsLost.Add(1)
		b.counts.lost.Add(lost)
		level = slog.LevelWarn
	} else {
		b.counts.resyncsStranger.Add(1)
	}
	n := a.entity.lookAgain(fetch)
	times, say := a.lines.Again(time.Now())
	if !say {
		level = slog.LevelDebug
	}
	b.log.Log(b.ctx, level, what, slog.String("entity", string(a.entity.name)), slog.Uint64("lost", lost),
		slog.Int("new_publishers", strangers), slog.Int("views", n), slog.Uint64("times_since_the_last_line", times))
}

// lineEvery is how often an auditor says at a level above debug that it has everything
// looked at again. A publisher decides how often that is.
const lineEvery = 10 * time.Second

// overdue settles the doubts whose grace is over. It returns how many numbers
// were missing, how many publishers were strangers, and the last fetch that had
// begun when the newest of these doubts arose.
func (a *auditor) overdue(now time.Time) (lost uint64, strangers int, fetch uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	grace, begun := a.entity.bridge.config.Grace, a.entity.bridge.counts.sequence.Load()
	a.timer = nil
	strangers, fetch = a.orphans, a.orphaned
	a.orphans, a.orphaned = 0, 0
	var next time.Duration // until the next doubt is overdue
	for _, n := range a.publishers {
		if n.since.IsZero() {
			continue
		}
		left := grace - now.Sub(n.since)
		if left <= 0 {
			fetch = max(fetch, n.fetch)
			if n.stranger {
				strangers++
			}
			lost += n.settle()
			n.since = time.Time{}
			if !n.inDoubt() {
				continue
			}
			n.doubt(now, begun)
			left = grace
		}
		if next == 0 || left < next {
			next = left
		}
	}
	if next > 0 {
		a.checkIn(next)
	}
	return lost, strangers, fetch
}

// checkIn starts the timer, unless it runs.
func (a *auditor) checkIn(d time.Duration) {
	if a.timer == nil && !a.closed {
		a.timer = time.AfterFunc(d, func() { a.entity.bridge.startWorker(a.check) })
	}
}

func (a *auditor) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
}
