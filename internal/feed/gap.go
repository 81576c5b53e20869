package feed

import (
	"strings"
	"sync"
	"time"
)

// maxPublishers bounds the publishers that a gap detector remembers. A restarted node has a
// new name, and the names not heard for longest are forgotten.
const maxPublishers = 1024

// gapDetector notices that messages of one topic were lost. Each node numbers its messages
// and publishes its last number at intervals. When a number does not arrive within the grace
// period, there is a Gap. Messages without a number, from other programs, are not counted.
type gapDetector struct {
	feed *Feed

	mu         sync.Mutex // taken with no other lock held
	publishers map[string]*sequence
	timer      *time.Timer // runs while a hole is within its grace
	evicted    evicted
	closed     bool
}

// evicted counts the publishers that were forgotten while messages of theirs were missing.
type evicted struct {
	publishers int
	position   uint64 // the greatest of their sequences' positions
}

// hear notes the number of a message or a beat.
func (d *gapDetector) hear(m message) {
	config := &d.feed.node.config
	d.mu.Lock()
	defer d.mu.Unlock()
	now, position := time.Now(), config.Position()
	s := d.publishers[m.From]
	if s != nil && s.isFarBehind(m) {
		s = nil
	}
	if s == nil {
		s = d.remember(m, now)
	}
	s.heard = now
	s.take(m)
	if !s.hasHole() {
		s.since = time.Time{}
		return
	}
	// Where messages overtake each other all the time there is always some hole. The next
	// hole must not get the age of one that has closed.
	if s.since.IsZero() || s.through >= s.upTo && !s.midway {
		s.suspect(now, position)
	}
	d.checkIn(config.Grace)
}

// remember adds the publisher of m. If there are too many, it replaces the one not heard
// for longest.
func (d *gapDetector) remember(m message, now time.Time) *sequence {
	if _, known := d.publishers[m.From]; !known && len(d.publishers) >= maxPublishers {
		d.evictOne()
	}
	if d.publishers == nil {
		d.publishers = make(map[string]*sequence)
	}
	s := &sequence{heard: now}
	if m.isBeat() || m.Seq > 1 {
		// It has published before. Whether those messages were lost, or sent before this node
		// joined, cannot be known.
		s.midway, s.through = true, m.Seq
	}
	d.publishers[strings.Clone(m.From)] = s // the map must not keep the message's body alive
	return s
}

func (d *gapDetector) evictOne() {
	oldest := ""
	for name, s := range d.publishers {
		if oldest == "" || s.heard.Before(d.publishers[oldest].heard) {
			oldest = name
		}
	}
	if s := d.publishers[oldest]; !s.since.IsZero() {
		d.evicted.publishers++
		d.evicted.position = max(d.evicted.position, s.position)
	}
	delete(d.publishers, oldest)
}

// check reports the messages that have been missing for longer than the grace period. They
// were published before they were noticed, so work that began after that has missed none.
func (d *gapDetector) check() {
	g := d.overdue(time.Now())
	if g.Missing == 0 && g.Joined == 0 {
		return
	}
	d.feed.node.lost.Add(g.Missing)
	d.feed.gap(g)
}

// overdue gives up each hole that is past its grace, and returns the Gap that they make.
func (d *gapDetector) overdue(now time.Time) Gap {
	config := &d.feed.node.config
	d.mu.Lock()
	defer d.mu.Unlock()
	position := config.Position()
	d.timer = nil
	g := Gap{Reason: Midway, Joined: d.evicted.publishers, Position: d.evicted.position}
	d.evicted = evicted{}
	var next time.Duration // until the next hole is past its grace
	for _, s := range d.publishers {
		if s.since.IsZero() {
			continue
		}
		left := config.Grace - now.Sub(s.since)
		if left <= 0 {
			g.Position = max(g.Position, s.position)
			if s.midway {
				g.Joined++
			}
			g.Missing += s.settle()
			s.since = time.Time{}
			if !s.hasHole() {
				continue
			}
			s.suspect(now, position)
			left = config.Grace
		}
		if next == 0 || left < next {
			next = left
		}
	}
	if next > 0 {
		d.checkIn(next)
	}
	if g.Missing > 0 {
		g.Reason = Missing
	}
	return g
}

// checkIn starts the timer, unless it runs.
func (d *gapDetector) checkIn(after time.Duration) {
	if d.timer == nil && !d.closed {
		d.timer = time.AfterFunc(after, func() { d.feed.node.start(d.check) })
	}
}

func (d *gapDetector) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
}
