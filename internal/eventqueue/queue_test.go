package eventqueue_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/internal/eventqueue"
)

// event is one of the tests: its frame is its name, and its subscriptions.
type event struct {
	name, key string
	topics    []string
	bytes     int
	fence     bool
}

func (e *event) Topics() []string { return e.topics }
func (e *event) Key() string      { return e.key }
func (e *event) IsFence() bool    { return e.fence }
func (e *event) Bytes() int       { return e.bytes }
func (e *event) Frame() []byte    { return []byte(e.name + " " + strings.Join(e.topics, ",")) }

func (e *event) Without(topic string) (eventqueue.Event, bool) {
	other := *e
	other.topics = slices.DeleteFunc(slices.Clone(e.topics), func(t string) bool { return t == topic })
	return &other, len(other.topics) > 0
}

func newQueue(events, bytes int) *eventqueue.Queue {
	return eventqueue.New(eventqueue.Limits{Events: events, Bytes: bytes}, func(topic string, missed uint64) []byte {
		return []byte(fmt.Sprint("gap ", topic, " ", missed))
	})
}

func put(q *eventqueue.Queue, name string, topics ...string) {
	q.Put(&event{name: name, topics: topics, bytes: 10})
}

func want(t *testing.T, q *eventqueue.Queue, want ...string) {
	t.Helper()
	var got []string
	for _, frame := range q.Take(nil, 1<<20, 1<<20) {
		got = append(got, string(frame))
	}
	if !slices.Equal(got, want) {
		t.Errorf("taken: %q, want %q", got, want)
	}
	if !q.IsEmpty() || q.Len() != 0 {
		t.Errorf("%d are left", q.Len())
	}
}

func TestTheOldestGoesFirst(t *testing.T) {
	t.Parallel()
	q := newQueue(3, 1000)
	for n := range 5 {
		put(q, fmt.Sprint(n), "a")
	}
	put(q, "5", "b", "a")
	put(q, "6", "b")
	want(t, q, "gap a 4", "4 a", "5 b,a", "6 b")
	if q.Missed() != 4 {
		t.Errorf("%d were missed, want 4", q.Missed())
	}
}

// An event for several subscriptions is missing in each.
func TestAGapOfEachSubscription(t *testing.T) {
	t.Parallel()
	q := newQueue(1, 1000)
	put(q, "1", "a", "b")
	put(q, "2", "b")
	put(q, "3", "c")
	want(t, q, "gap a 1", "gap b 2", "3 c")
}

func TestTheBytesAreBounded(t *testing.T) {
	t.Parallel()
	q := newQueue(100, 35)
	for n := range 5 {
		put(q, fmt.Sprint(n), "a")
	}
	q.Put(&event{name: "large", topics: []string{"a"}, bytes: 100}) // alone it may be of any size
	want(t, q, "gap a 5", "large a")
}

// What is not known to have a number has none, also together with what has one.
func TestGapsAreJoined(t *testing.T) {
	t.Parallel()
	q := newQueue(2, 1000)
	q.Gap("a", 3)
	q.Gap("b", 0)
	q.Gap("a", 4)
	put(q, "1", "a")
	q.Gap("a", 0)
	q.Gap("b", 1)
	want(t, q, "gap a 7", "gap b 0", "1 a", "gap a 0")

	put(q, "1", "a")
	q.Gap("a", 0)
	q.Gap("b", 2)
	for n := 2; n < 5; n++ {
		put(q, fmt.Sprint(n), "a")
	}
	want(t, q, "gap a 0", "gap b 2", "3 a", "4 a")
}

func TestTheLatestTakesThePlace(t *testing.T) {
	t.Parallel()
	q := newQueue(3, 1000)
	latest := func(name, key string) { q.Put(&event{name: name, key: key, topics: []string{"a"}, bytes: 10}) }
	latest("1", "x")
	latest("2", "y")
	put(q, "3", "a")
	for n := range 100 {
		latest(fmt.Sprint("x", n), "x")
	}
	want(t, q, "x99 a", "2 a", "3 a")
	latest("4", "x")
	want(t, q, "4 a")
}

// An event that took the place of another one is not the last of its subscription: the gaps
// after it are one.
func TestGapsBehindTheLatestAreJoined(t *testing.T) {
	t.Parallel()
	q := newQueue(10, 1000)
	for n := range 5 {
		q.Put(&event{name: fmt.Sprint(n), key: "k", topics: []string{"a"}, bytes: 10})
		q.Gap("a", 0)
	}
	want(t, q, "4 a", "gap a 0")
}

// What comes after a fence does not overtake it.
func TestAFence(t *testing.T) {
	t.Parallel()
	q := newQueue(10, 1000)
	latest := func(name string) { q.Put(&event{name: name, key: "k", topics: []string{"a"}, bytes: 10}) }
	latest("1")
	latest("2")
	q.Put(&event{name: "fence", topics: []string{"a"}, bytes: 10, fence: true})
	latest("3")
	latest("4")
	want(t, q, "2 a", "fence a", "4 a")
}

func TestWhatIsRetracted(t *testing.T) {
	t.Parallel()
	q := newQueue(10, 1000)
	put(q, "1", "a")
	put(q, "2", "b", "a")
	q.Gap("a", 1)
	q.Gap("b", 1)
	q.Put(&event{name: "3", key: "x", topics: []string{"a"}, bytes: 10})
	q.Retract("a")
	q.Put(&event{name: "4", key: "x", topics: []string{"b"}, bytes: 10})
	q.Gap("a", 2)
	want(t, q, "2 b", "gap b 1", "4 b", "gap a 2")
}

func TestTakingSome(t *testing.T) {
	t.Parallel()
	q := newQueue(10, 1000)
	for n := range 6 {
		put(q, fmt.Sprint(n), "a")
	}
	if got := q.Take(nil, 2, 1000); len(got) != 2 {
		t.Errorf("took %d, want 2", len(got))
	}
	if got := q.Take(nil, 100, 4); len(got) != 2 { // "2 a" and "3 a"
		t.Errorf("took %d, want the 2 that reach 4 bytes", len(got))
	}
	put(q, "x", "b")
	q.Clear()
	want(t, q)
	put(q, "y", "b")
	want(t, q, "y b")
}

// Whatever is put, taken and retracted: the limits hold, events come in order, and each that
// does not come is counted in a gap of each of its subscriptions, in its place.
func TestNothingIsMissedInSilence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		q := newQueue(limit, 1<<20)
		topics := []string{"a", "b", "c"}
		expected := map[string][]int{} // of each topic, the events that were neither taken nor missed
		take := func(most int) {
			for _, frame := range q.Take(nil, most, 1<<20) {
				var name, rest string
				if _, err := fmt.Sscan(string(frame), &name, &rest); err != nil {
					t.Fatal(err)
				}
				if name == "gap" {
					var missed int
					if _, err := fmt.Sscanf(string(frame), "gap "+rest+" %d", &missed); err != nil || missed > len(expected[rest]) {
						t.Fatalf("%s, though only %v are out", frame, expected[rest])
					}
					expected[rest] = expected[rest][missed:]
					continue
				}
				for topic := range strings.SplitSeq(rest, ",") {
					if len(expected[topic]) == 0 || fmt.Sprint(expected[topic][0]) != name {
						t.Fatalf("%s comes while %v are out of %s", frame, expected[topic], topic)
					}
					expected[topic] = expected[topic][1:]
				}
			}
		}
		for n := range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				take(rapid.IntRange(1, 4).Draw(t, "most"))
			case 1:
				topic := rapid.SampledFrom(topics).Draw(t, "topic")
				q.Retract(topic)
				expected[topic] = nil
			default:
				of := topics[:0:0]
				for _, topic := range topics {
					if rapid.Bool().Draw(t, topic) {
						of = append(of, topic)
						expected[topic] = append(expected[topic], n)
					}
				}
				if len(of) > 0 {
					put(q, fmt.Sprint(n), of...)
				}
			}
			if q.Len() > limit+len(topics) {
				t.Fatalf("%d wait, with a limit of %d", q.Len(), limit)
			}
		}
		take(1 << 20)
		for topic, left := range expected {
			if len(left) > 0 {
				t.Fatalf("%v of %s never came and were not missed", left, topic)
			}
		}
	})
}
