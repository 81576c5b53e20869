// Package eventqueue holds the events that wait to be written to one client, in order. What
// waits is bounded: the oldest event goes first, and a gap that says how many were missed stands
// in its place.
package eventqueue

// Event is an event that waits for a client.
type Event interface {
	// Topics returns the client's subscriptions that the event is for: one at least.
	Topics() []string

	// Without returns the event for the other subscriptions alone. It is not ok where there
	// is no other.
	Without(topic string) (other Event, ok bool)

	// Key names what the event is the latest of, and is empty where every event counts.
	Key() string

	// IsFence reports whether later events must not take the place of those before it.
	IsFence() bool

	// Bytes is how much of the event waits.
	Bytes() int

	// Frame returns what is written.
	Frame() []byte
}

// Limits bound what waits for one client. Both are required.
type Limits struct {
	Events, Bytes int
}

// Queue is the events of one client. It is not safe for concurrent use.
type Queue struct {
	limits     Limits
	gapFrame   func(topic string, missed uint64) []byte
	first      *entry
	last       *entry
	events     int
	bytes      int
	missed     uint64            // in all
	latest     map[string]*entry // by the events' keys
	recentGaps map[string]*entry // of a topic without a later event
}

// entry is an event, or a gap of a topic, in a list.
type entry struct {
	prev, next *entry
	event      Event // nil for a gap

	topic   string
	missed  uint64
	unknown bool // how many were missed is not known
}

// New returns an empty Queue. gapFrame returns what is written of a gap: of how many events, or
// of zero where that is not known.
func New(l Limits, gapFrame func(topic string, missed uint64) []byte) *Queue {
	return &Queue{limits: l, gapFrame: gapFrame, latest: make(map[string]*entry), recentGaps: make(map[string]*entry)}
}

// Len returns how many events and gaps wait.
func (q *Queue) Len() (n int) {
	for e := q.first; e != nil; e = e.next {
		n++
	}
	return n
}

// IsEmpty reports whether nothing waits.
func (q *Queue) IsEmpty() bool { return q.first == nil }

// Missed returns how many events had to go since the Queue was made.
func (q *Queue) Missed() uint64 { return q.missed }

// Put has an event wait, in place of the one with its key if there is one.
func (q *Queue) Put(event Event) {
	if waiting := q.latest[event.Key()]; waiting != nil {
		q.bytes += event.Bytes() - waiting.event.Bytes()
		waiting.event = event
	} else {
		q.append(event)
	}
	for q.events > q.limits.Events || q.bytes > q.limits.Bytes && q.events > 1 {
		q.dropOldest()
	}
}

func (q *Queue) append(event Event) {
	if event.IsFence() {
		clear(q.latest)
	}
	for _, topic := range event.Topics() {
		delete(q.recentGaps, topic)
	}
	e := &entry{event: event}
	q.insert(e, nil)
	q.events++
	q.bytes += event.Bytes()
	if key := event.Key(); key != "" {
		q.latest[key] = e
	}
}

// Gap says that events of a topic were missed: how many, or zero where that is not known.
func (q *Queue) Gap(topic string, missed uint64) {
	if e := q.recentGaps[topic]; e != nil {
		e.miss(missed)
		return
	}
	e := &entry{topic: topic}
	e.miss(missed)
	q.insert(e, nil)
	q.recentGaps[topic] = e
}

func (e *entry) miss(n uint64) {
	e.missed += n
	e.unknown = e.unknown || n == 0
}

// dropOldest puts gaps in the place of the oldest event. Before that there are gaps alone.
func (q *Queue) dropOldest() {
	oldest := q.first
	for oldest.event == nil {
		oldest = oldest.next
	}
	q.missed++
	for _, topic := range oldest.event.Topics() {
		gap := q.gapBefore(oldest, topic)
		if gap == nil {
			gap = &entry{topic: topic}
			q.insert(gap, oldest)
		}
		gap.miss(1)
	}
	after := oldest.next
	q.remove(oldest)
	q.mergeGaps(after)
}

func (q *Queue) gapBefore(end *entry, topic string) *entry {
	for e := q.first; e != end; e = e.next {
		if e.topic == topic {
			return e
		}
	}
	return nil
}

// mergeGaps joins the gaps from one on, up to the next event, with those before.
func (q *Queue) mergeGaps(from *entry) {
	for e := from; e != nil && e.event == nil; {
		next := e.next
		if earlier := q.gapBefore(e, e.topic); earlier != nil {
			earlier.missed += e.missed
			earlier.unknown = earlier.unknown || e.unknown
			if q.recentGaps[e.topic] == e {
				q.recentGaps[e.topic] = earlier
			}
			q.unlink(e)
		}
		e = next
	}
}

// Retract takes back what waits of a subscription.
func (q *Queue) Retract(topic string) {
	for e := q.first; e != nil; {
		next := e.next
		if e.event != nil {
			q.retractFrom(e, topic)
		} else if e.topic == topic {
			q.unlink(e)
		}
		e = next
	}
	delete(q.recentGaps, topic)
}

func (q *Queue) retractFrom(e *entry, topic string) {
	for _, t := range e.event.Topics() {
		if t != topic {
			continue
		}
		other, ok := e.event.Without(topic)
		if !ok {
			q.remove(e)
			return
		}
		q.bytes += other.Bytes() - e.event.Bytes()
		e.event = other
		return
	}
}

// Take removes what is to be written next, and appends its frames: at most so many, and not
// many more than so many bytes.
func (q *Queue) Take(frames [][]byte, most, bytes int) [][]byte {
	for n, size := 0, 0; q.first != nil && n < most && size < bytes; n++ {
		e := q.first
		var frame []byte
		if e.event != nil {
			frame = e.event.Frame()
			q.remove(e)
		} else {
			frame = q.frameOf(e)
			if q.recentGaps[e.topic] == e {
				delete(q.recentGaps, e.topic)
			}
			q.unlink(e)
		}
		if len(frame) > 0 {
			frames = append(frames, frame)
			size += len(frame)
		}
	}
	return frames
}

func (q *Queue) frameOf(gap *entry) []byte {
	if gap.unknown {
		return q.gapFrame(gap.topic, 0)
	}
	return q.gapFrame(gap.topic, gap.missed)
}

// Clear drops everything.
func (q *Queue) Clear() {
	q.first, q.last, q.events, q.bytes = nil, nil, 0, 0
	clear(q.latest)
	clear(q.recentGaps)
}

// insert puts an entry before another, or at the end.
func (q *Queue) insert(e, before *entry) {
	e.next, e.prev = before, q.last
	if before != nil {
		e.prev = before.prev
		before.prev = e
	} else {
		q.last = e
	}
	if e.prev != nil {
		e.prev.next = e
	} else {
		q.first = e
	}
}

// remove takes out an event.
func (q *Queue) remove(e *entry) {
	q.events--
	q.bytes -= e.event.Bytes()
	if key := e.event.Key(); key != "" && q.latest[key] == e {
		delete(q.latest, key)
	}
	q.unlink(e)
}

func (q *Queue) unlink(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.last = e.prev
	}
}
