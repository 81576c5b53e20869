package feed

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxHeldBytes bounds what waits for a hole to close, of all publishers of a Stream together.
// Beyond that the hole counts as lost at once.
const maxHeldBytes = 4 << 20

// maxOvertaking is how many messages of a new publisher may overtake its first one: by way of
// several brokers some do. A publisher that is first heard with a greater number has published
// before.
const maxOvertaking = 16

// reorder puts a Stream's messages in order, and finds what is missing. A message that comes
// after a hole is held until the hole closes or its grace is over.
type reorder struct {
	stream *Stream

	mu         sync.Mutex // guards what follows
	publishers map[string]*order
	ever       uint64 // publishers
	held       int    // bytes
	live       time.Time
	timer      *time.Timer // runs while a hole is within its grace
	closed     bool
}

// order is what was heard of one publisher.
type order struct {
	next    uint64             // number of the message to deliver next
	reached uint64             // the highest number known to have been used
	ahead   map[uint64]message // of the numbers beyond next
	heard   time.Time          // when anything was heard last
	ordinal uint64             // among all publishers that were ever remembered

	since    time.Time // when the hole before ahead was noticed; zero where there is none
	upTo     uint64    // reached at that time
	position uint64    // Config.Position at that time
}

func (o *order) hasHole() bool { return o.next <= o.reached }

// hear takes a message or a beat.
func (r *reorder) hear(m message) {
	r.hearInOrder(m)
	r.stream.run()
}

func (r *reorder) hearInOrder(m message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, beat := time.Now(), m.isBeat()
	if !beat && r.isOldLocked(m, now) {
		m.Records = nil // it is missing, in its place
	}
	if m.From == "" || m.Seq == 0 {
		if len(m.Records) > 0 {
			r.deliverLocked(m)
		}
		return
	}
	o := r.publishers[m.From]
	if o == nil {
		o = r.rememberLocked(m, beat)
	}
	o.heard = now
	o.reached = max(o.reached, m.Seq)
	if !beat {
		r.takeLocked(o, m)
	}
	r.watchLocked(o, now)
}

// deliverLocked has the listener hear a message once the lock is free.
func (r *reorder) deliverLocked(m message) {
	if len(m.Records) == 0 {
		r.gapLocked(Gap{Reason: Missing, Missing: 1, Position: r.position()})
		return
	}
	published := time.UnixMilli(m.At)
	r.stream.calls.add(func(l StreamListener) {
		for _, text := range m.Records {
			l.Record(Record{Text: text, From: m.From, Published: published, Trace: m.Trace})
		}
	})
}

// gapLocked has the listener hear a gap once the lock is free.
func (r *reorder) gapLocked(g Gap) {
	r.stream.calls.add(func(l StreamListener) { l.Gap(g) })
}

// isOldLocked reports whether a message was published before the node could hear it, or too
// long ago. One that does not say when cannot be told from a broker's backlog.
func (r *reorder) isOldLocked(m message, now time.Time) bool {
	at := time.UnixMilli(m.At)
	return m.At == 0 || at.Before(r.live) || now.Sub(at) > maxAge
}

// rememberLocked adds the publisher of m. Whether what it has published before was lost, or was
// before this node listened, cannot be known.
func (r *reorder) rememberLocked(m message, beat bool) *order {
	if r.publishers == nil {
		r.publishers = make(map[string]*order)
	}
	if len(r.publishers) >= maxPublishers {
		r.forgetOneLocked()
	}
	r.ever++
	o := &order{next: 1, ordinal: r.ever}
	isNew := m.From == r.stream.feed.node.name || !beat && m.Seq <= maxOvertaking
	if !isNew {
		if o.next = m.Seq; beat {
			o.next++
		}
		r.gapLocked(Gap{Reason: Midway, Joined: 1, Position: r.position()})
	}
	r.publishers[strings.Clone(m.From)] = o
	return o
}

// forgetOneLocked forgets the publisher not heard for longest. What is held of it is delivered:
// the hole counts as lost.
func (r *reorder) forgetOneLocked() {
	oldest := ""
	for name, o := range r.publishers {
		if oldest == "" || o.heard.Before(r.publishers[oldest].heard) {
			oldest = name
		}
	}
	o := r.publishers[oldest]
	o.upTo, o.position = o.reached, r.position()
	r.settleLocked(o)
	delete(r.publishers, oldest)
}

// takeLocked delivers a message, and those that waited for it; or holds the message.
func (r *reorder) takeLocked(o *order, m message) {
	switch _, known := o.ahead[m.Seq]; {
	case m.Seq < o.next, known:
		return // heard before
	case m.Seq-m.Skip > o.next:
		if o.ahead == nil {
			o.ahead = make(map[uint64]message)
		}
		o.ahead[m.Seq] = m
		r.held += m.bytes()
		return
	}
	r.deliverLocked(m)
	o.next = m.Seq + 1
	r.advanceLocked(o)
}

// advanceLocked delivers what waited for the number before it.
func (r *reorder) advanceLocked(o *order) {
	for {
		m, held := o.first()
		if !held || m.Seq-m.Skip > o.next {
			return
		}
		delete(o.ahead, m.Seq)
		if r.held -= m.bytes(); m.Seq < o.next {
			continue // it was refused, and a later message has said so
		}
		r.deliverLocked(m)
		o.next = m.Seq + 1
	}
}

// first returns the first message that is held.
func (o *order) first() (m message, held bool) {
	if len(o.ahead) == 0 {
		return m, false
	}
	if m, held = o.ahead[o.next]; held { // as nearly always
		return m, true
	}
	return o.ahead[slices.Min(slices.Collect(maps.Keys(o.ahead)))], true
}

// bytes is how much a message's records take.
func (m message) bytes() (n int) {
	for _, record := range m.Records {
		n += len(record)
	}
	return n
}

// watchLocked begins the grace of a hole, and ends that of one that has closed.
func (r *reorder) watchLocked(o *order, now time.Time) {
	if !o.hasHole() {
		o.since = time.Time{}
		return
	}
	if o.since.IsZero() || o.next > o.upTo {
		o.since, o.upTo, o.position = now, o.reached, r.position()
	}
	for r.held > maxHeldBytes || len(o.ahead) > maxAhead {
		o.upTo, o.position = o.reached, r.position()
		r.settleLocked(o)
		if r.held > maxHeldBytes {
			o = r.fullestLocked()
		}
	}
	r.checkInLocked(r.stream.feed.node.config.Grace)
}

func (r *reorder) fullestLocked() (fullest *order) {
	for _, o := range r.publishers {
		if fullest == nil || len(o.ahead) > len(fullest.ahead) {
			fullest = o
		}
	}
	return fullest
}

// settleLocked gives up what is missing up to upTo, and delivers what is held up to there, with
// a Gap in each hole's place.
func (r *reorder) settleLocked(o *order) {
	for o.next <= o.upTo {
		next := o.upTo + 1
		if m, held := o.first(); held {
			next = max(o.next, min(next, m.Seq-m.Skip))
		}
		missing := next - o.next
		o.next = next
		r.stream.feed.node.lost.Add(missing)
		r.gapLocked(Gap{Reason: Missing, Missing: missing, Position: o.position})
		r.advanceLocked(o)
	}
	o.since = time.Time{}
}

// check gives up what has been missing for longer than the grace.
func (r *reorder) check() {
	r.settleOverdue()
	r.stream.run()
}

func (r *reorder) settleOverdue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = nil
	if r.closed {
		return
	}
	now, grace := time.Now(), r.stream.feed.node.config.Grace
	var next time.Duration
	for _, o := range r.inOrderLocked() {
		if o.since.IsZero() {
			continue
		}
		left := grace - now.Sub(o.since)
		if left <= 0 {
			if r.settleLocked(o); !o.hasHole() {
				continue
			}
			o.since, o.upTo, o.position = now, o.reached, r.position()
			left = grace
		}
		if next == 0 || left < next {
			next = left
		}
	}
	if next > 0 {
		r.checkInLocked(next)
	}
}

// inOrderLocked returns the publishers in the order in which they were first heard, so that what
// a model finds comes again.
func (r *reorder) inOrderLocked() []*order {
	return slices.SortedFunc(maps.Values(r.publishers), func(a, b *order) int { return cmp.Compare(a.ordinal, b.ordinal) })
}

// checkInLocked starts the timer, unless it runs.
func (r *reorder) checkInLocked(after time.Duration) {
	if r.timer == nil && !r.closed {
		r.timer = time.AfterFunc(after, func() { r.stream.feed.node.start(r.check) })
	}
}

func (r *reorder) position() uint64 { return r.stream.feed.node.config.Position() }

// connected takes what was published before now for a broker's backlog.
func (r *reorder) connected(g Gap) {
	r.mu.Lock()
	r.live = time.Now().Truncate(time.Millisecond) // as publishers say it
	r.gapLocked(g)
	r.mu.Unlock()
	r.stream.run()
}

func (r *reorder) disconnected(g Gap) {
	r.mu.Lock()
	r.gapLocked(g)
	r.mu.Unlock()
	r.stream.run()
}

func (r *reorder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
