package test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// speaker publishes one event after the other, and notes which of them Publish returned nil for.
type speaker struct {
	mu      sync.Mutex // guards what follows
	ok      []bool     // by the event's number
	failed  int
	hushed  bool
	running sync.WaitGroup
}

// speak publishes until hush.
func (n *node) speak(by int) *speaker {
	s := new(speaker)
	s.running.Go(func() {
		for s.goesOn() {
			_ = s.once(n, by) // it is noted
			time.Sleep(2 * time.Millisecond)
		}
	})
	return s
}

// once publishes one event.
func (s *speaker) once(n *node, by int) error {
	err := n.say(said{by, s.count()})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ok = append(s.ok, err == nil)
	if err != nil {
		s.failed++
	}
	return err
}

func (s *speaker) goesOn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.hushed
}

func (s *speaker) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ok)
}

func (s *speaker) failures() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *speaker) successes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ok) - s.failed
}

// hush ends it.
func (s *speaker) hush() {
	s.mu.Lock()
	s.hushed = true
	s.mu.Unlock()
	s.running.Wait()
}

// nsqd is killed and started again while nodes publish. Of what Publish returned nil for, each
// client of each node gets the event, or is told of a gap in its place.
func TestEventsAreDeliveredOrToldThoughNSQDIsKilled(t *testing.T) {
	t.Parallel()
	nsqd := nsqdtest.Start(t)
	nodes := []*node{startNewsNode(t, es.Config{NSQAddr: nsqd.Addr}), startNewsNode(t, es.Config{NSQAddr: nsqd.Addr})}
	untilHeard(t, nodes...)
	var clients []*listener
	var speakers []*speaker
	for _, n := range nodes {
		clients = append(clients, n.listen(t, "news"))
	}
	for by, n := range nodes {
		speakers = append(speakers, n.speak(by))
	}
	more := func(what string, figure func(*speaker) int, by int) {
		t.Helper()
		for _, s := range speakers {
			before := figure(s)
			testkit.Until(t, what, func() bool { return figure(s) >= before+by })
		}
	}
	for range 2 {
		more("events are published", (*speaker).successes, 20)
		nsqd.Kill(t)
		for i, n := range nodes {
			testkit.Until(t, fmt.Sprintf("node %d noticed", i), func() bool { return !n.Bridge.Ready() })
		}
		more("events are refused", (*speaker).failures, 1)
		nsqd.Start(t)
		untilHeard(t, nodes...)
	}
	more("events are published again", (*speaker).successes, 20)
	for by, s := range speakers {
		s.hush()
		if err := s.once(nodes[by], by); err != nil {
			t.Fatalf("the last event: %v", err)
		}
	}
	for _, l := range clients {
		l.checkAgainst(speakers)
	}
}

// checkAgainst reads up to the last event of each speaker.
func (l *listener) checkAgainst(speakers []*speaker) {
	l.t.Helper()
	next, told := make([]int, len(speakers)), make([]bool, len(speakers))
	gaps, missing := 0, 0
	for ended := 0; ended < len(speakers); {
		what, gap := l.next()
		if gap {
			gaps++
			for by := range told {
				told[by] = true
			}
			continue
		}
		if what.N < next[what.By] {
			l.t.Errorf("heard %d of publisher %d after %d", what.N, what.By, next[what.By]-1)
			continue
		}
		ok := speakers[what.By].ok
		for n := next[what.By]; n < what.N; n++ {
			if !ok[n] {
				continue
			}
			if missing++; !told[what.By] {
				l.t.Errorf("event %d of publisher %d is missing, and no gap was told before %d", n, what.By, what.N)
			}
		}
		next[what.By], told[what.By] = what.N+1, false
		if what.N == len(ok)-1 {
			ended++
		}
	}
	l.t.Logf("%d events did not come, in %d gaps", missing, gaps)
}
