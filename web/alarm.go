package web

import (
	"container/heap"
	"sync"
	"time"
)

// alarm has each session look after its client when it is time to. It is one timer for
// all of them: one for each would be a twentieth of what an idle client costs.
type alarm struct {
	work sync.WaitGroup // one while the timer runs, or what it has started

	mu     sync.Mutex // taken after a session's lock
	set    alarmHeap
	timer  *time.Timer // nil while it does not run
	at     time.Time   // when it ends
	closed bool
}

// ring has s.askAlive called at the given time, and at no other that was given before.
func (a *alarm) ring(s *session, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.alarm.at = at
	if s.alarm.place == 0 {
		heap.Push(&a.set, s)
	} else {
		heap.Fix(&a.set, s.alarm.place-1)
	}
	a.startLocked()
}

// stop takes back what ring was told.
func (a *alarm) stop(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.alarm.place > 0 {
		heap.Remove(&a.set, s.alarm.place-1)
	}
}

// startLocked sees to it that the timer ends with the first alarm at the latest.
func (a *alarm) startLocked() {
	if a.closed || len(a.set) == 0 {
		return
	}
	first := a.set[0].alarm.at
	if a.timer != nil {
		if !first.Before(a.at) || !a.stopLocked() {
			return // it rings early enough, or just now
		}
	}
	a.work.Add(1)
	a.at = first
	a.timer = time.AfterFunc(time.Until(first), a.run)
}

// stopLocked stops the timer, unless what it starts has begun.
func (a *alarm) stopLocked() bool {
	stopped := a.timer.Stop()
	if stopped {
		a.timer = nil
		a.work.Done()
	}
	return stopped
}

func (a *alarm) run() {
	defer a.work.Done()
	for s := a.next(time.Now()); s != nil; s = a.next(time.Now()) {
		s.askAlive()
	}
}

// next returns a session whose time has come. Without one it starts the timer anew.
func (a *alarm) next(now time.Time) *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed && len(a.set) > 0 && !a.set[0].alarm.at.After(now) {
		return heap.Pop(&a.set).(*session) //nolint:forcetypeassert // nothing else is put there
	}
	a.timer = nil
	a.startLocked()
	return nil
}

// close returns when no session is being called, and none will be. It may be called
// more than once.
func (a *alarm) close() {
	a.mu.Lock()
	a.closed = true
	if a.timer != nil {
		a.stopLocked()
	}
	a.mu.Unlock()
	a.work.Wait()
}

// alarmPlace is a session's place among the alarms that are set, which guard it.
type alarmPlace struct {
	at    time.Time
	place int // in the heap, from 1 on; zero for none
}

// alarmHeap implements heap.Interface: the session whose time comes first is first.
type alarmHeap []*session

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].alarm.at.Before(h[j].alarm.at) }

func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].alarm.place, h[j].alarm.place = i+1, j+1
}

// Push implements heap.Interface.
func (h *alarmHeap) Push(s any) {
	*h = append(*h, s.(*session)) //nolint:forcetypeassert // see next
	(*h)[len(*h)-1].alarm.place = len(*h)
}

// Pop implements heap.Interface.
func (h *alarmHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	s.alarm.place = 0
	return s
}
