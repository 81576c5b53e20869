package sendqueue

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whatever is put, replaced and taken back: what is counted is what waits.
func TestAQueueCountsWhatWaits(t *testing.T) {
	r := newRig(t)
	rapid.Check(t, func(t *rapid.T) {
		q, _, _ := r.recorded()
		var slots [3]slot
		waiting := map[int]int{}
		q.Hold()
		pick := func(t *rapid.T) int { return rapid.IntRange(0, len(slots)-1).Draw(t, "slot") }
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				i, u := pick(t), text(strings.Repeat("x", rapid.IntRange(0, 100).Draw(t, "size")))
				q.Push(&slots[i], u)
				waiting[i] = u.Bytes()
			},
			"drop": func(t *rapid.T) {
				i := pick(t)
				if _, waits := waiting[i]; q.Drop(&slots[i]) != waits {
					t.Fatalf("dropping says %v", !waits)
				}
				delete(waiting, i)
			},
			"write": func(*rapid.T) {
				q.Release()
				q.Wait()
				q.Hold()
				clear(waiting)
			},
			"": func(t *rapid.T) {
				want := 0
				for _, n := range waiting {
					want += n
				}
				q.mu.Lock()
				got := q.bytes
				q.mu.Unlock()
				if got != want {
					t.Fatalf("%d bytes are counted, %d wait", got, want)
				}
			},
		})
	})
}

// What changes back before it can be said is not said.
func TestFreshAndStaleBeforeItIsSaidIsNothing(t *testing.T) {
	q, to, _ := newRig(t).recorded()
	held := func(do func()) {
		q.Hold()
		do()
		q.Release()
		q.Wait()
	}
	held(func() {
		for range 3 {
			q.AddStale(1)
			q.AddStale(-1)
		}
	})
	if got := to.String(); got != "" {
		t.Errorf("said %q", got)
	}
	held(func() { q.AddStale(1) })
	held(func() {
		q.Push(new(slot), "update")
		q.AddStale(-1)
	})
	if got, want := to.String(), "<false>update<true>"; got != want {
		t.Errorf("said %q, want %q: the update before it is fresh", got, want)
	}
}

// What is held when the queue ends is not written: it may be of a secret that has expired,
// or of one that is just being changed.
func TestWhatIsHeldIsNotWrittenAtTheEnd(t *testing.T) {
	for name, do := range map[string]func(q *Queue[text], slot *slot, flush func(*Queue[text])){
		"released before anything is written": func(q *Queue[text], slot *slot, flush func(*Queue[text])) {
			q.Hold()
			q.Push(slot, "row")
			q.End([]byte("bye"))
			q.Release()
			flush(q)
		},
		"released after all is written": func(q *Queue[text], slot *slot, flush func(*Queue[text])) {
			q.Hold()
			q.Push(slot, "row")
			q.End([]byte("bye"))
			flush(q)
			q.Release()
		},
		"held after the end": func(q *Queue[text], slot *slot, flush func(*Queue[text])) {
			q.Push(slot, "row")
			q.End([]byte("bye"))
			q.Hold()
			flush(q)
			q.Release()
		},
	} {
		r := newRig(t)
		flush := r.byHand()
		q, w, client := r.wired(t)
		var slot slot
		do(q, &slot, flush)
		flush(q)
		if q.bytes != 0 || q.Drop(&slot) {
			t.Errorf("%s: the update still waits", name)
		}
		w.hangUp()
		if got := readAll(t, client); got != "bye" {
			t.Errorf("%s: it writes %q", name, got)
		}
	}
}

// Once a client cannot be written to it is not tried again, though something was held.
func TestNothingIsWrittenAfterAFailure(t *testing.T) {
	r := newRig(t)
	flush := r.byHand()
	q, w, _ := r.wired(t)
	tries := 0
	w.begins = func() {
		tries++
		q.Ping() // another one comes meanwhile
	}
	var slot slot
	q.Hold()
	q.Push(&slot, "row")
	q.Ping()
	w.hangUp()
	flush(q)
	q.Release()
	flush(q)
	if tries != 1 || q.bytes != 0 || q.Drop(&slot) || q.owner.(*owner).failed != 1 {
		t.Errorf("after %d tries %d bytes wait; told %+v", tries, q.bytes, q.owner)
	}
	if q.Send([]byte("more"), MaxOrdered) {
		t.Error("it takes more")
	}
}

// A client that lets too much come together has what it is told last, and nothing else.
func TestTooMuchEndsTheQueue(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxBytes = 10 })
	q, to, o := r.recorded()
	q.Hold()
	q.Send([]byte("message"), MaxOrdered)
	q.Wait()
	q.Push(new(slot), "123456")
	q.Push(new(slot), "123456")
	q.Release()
	r.work.Wait()
	if got, want := to.String(), "message[4408]"; got != want || o.overflowed != 1 || !q.HasOverflowed() {
		t.Errorf("it writes %q, want %q; told %+v", got, want, o)
	}
}

// Nothing is written of a secret that has expired by the wall clock, and everything as
// soon as another time is known.
func TestAnUpdateOfAnExpiredSecretWaits(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRig(t, func(c *Config) { c.Clock = func() time.Time { return now } })
	q, to, o := r.recorded()
	q.ExpireAt(now.Add(time.Second))
	q.Push(new(slot), "1")
	r.work.Wait()
	now = now.Add(time.Minute)
	q.Push(new(slot), "2")
	r.work.Wait()
	if got := to.String(); got != "1" || o.expired != 1 {
		t.Errorf("it writes %q, want 1; told %+v", got, o)
	}
	q.ExpireAt(time.Time{})
	r.work.Wait()
	if got := to.String(); got != "12" {
		t.Errorf("it writes %q, want 12", got)
	}
}

// What is sent in order comes in order, and no update before the answer to a request
// though many messages wait before the answer.
func TestAReplyComesBeforeWhatComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, to, _ := newRig(t).recorded()
		to.gate = make(chan struct{}, MaxOrdered)
		q.Ping()
		synctest.Wait() // the writer is at the gate, and all that follows waits
		want := "?"
		q.Hold()
		for range 3 * maxOrderedAtOnce {
			q.Send([]byte("m"), MaxOrdered)
			want += "m"
		}
		q.Reply([]byte("(ack)"))
		q.Push(new(slot), "row")
		q.Release()
		q.Send([]byte("last"), MaxOrdered)
		for range cap(to.gate) {
			to.gate <- struct{}{}
		}
		q.Wait()
		got := to.String()
		if want += "(ack)"; !strings.HasPrefix(got, want) || len(got) != len(want)+len("rowlast") {
			t.Errorf("it writes %q, want %q first", got, want)
		}
	})
}

// The lanes share what is written at once: many messages keep no update waiting for more
// than a turn, nor many updates a message.
func TestLanesStarveNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, to, _ := newRig(t).recorded()
		to.gate = make(chan struct{}, MaxOrdered)
		q.Ping()
		synctest.Wait() // the writer is at the gate, and all that follows waits
		for range MaxOrdered {
			q.Send([]byte("m"), MaxOrdered)
		}
		slots := make([]slot, 4*maxBatch)
		for i := range slots {
			q.Push(&slots[i], "u")
		}
		for range cap(to.gate) {
			to.gate <- struct{}{}
		}
		q.Wait()
		rest := strings.TrimPrefix(to.String(), "?")
		for i, n := range to.frames[1:] {
			turn := rest[:n]
			rest = rest[n:]
			messages := strings.Count(turn, "m")
			if n > maxBatch || strings.ContainsAny(rest, "m") && messages == 0 || strings.ContainsAny(rest, "u") && messages == n {
				t.Fatalf("turn %d is %q", i, turn)
			}
		}
		if rest != "" {
			t.Errorf("%q has no turn", rest)
		}
	})
}

// Who sends in order waits while the lane is full, by number or by bytes, and is let go
// by the end.
func TestAFullLaneHoldsUpWhoSends(t *testing.T) {
	for name, c := range map[string]struct {
		frame string
		most  int
		fit   int
	}{
		"by number":           {"m", MaxOrdered, MaxOrdered},
		"by a smaller number": {"m", 4, 4},
		"by bytes":            {strings.Repeat("m", MaxOrderedBytes/4), MaxOrdered, 4},
		"larger than all":     {strings.Repeat("m", 2*MaxOrderedBytes), MaxOrdered, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				q, to, _ := r.recorded()
				to.gate = make(chan struct{})
				q.Ping()
				synctest.Wait()
				sent, refused := 0, 0
				r.work.Go(func() {
					for range c.fit + 2 {
						if q.Send([]byte(c.frame), c.most) {
							sent++
						} else {
							refused++
						}
					}
				})
				synctest.Wait()
				if sent != c.fit {
					t.Errorf("%d are taken, want %d", sent, c.fit)
				}
				q.End(nil)
				close(to.gate)
				q.Wait()
				synctest.Wait()
				if refused != 2 || strings.Count(to.String(), "m") != c.fit*len(c.frame) {
					t.Errorf("%d are refused, want 2; %d bytes are written", refused, len(to.String()))
				}
			})
		})
	}
}
