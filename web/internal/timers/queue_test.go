package timers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/instant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// called notes when it is called, and has itself called again.
type called struct {
	queue *Queue
	entry Entry
	every time.Duration // zero for once
	at    []time.Time
}

func (c *called) Due() {
	c.at = append(c.at, time.Now())
	if c.every > 0 {
		c.start()
	}
}

func (c *called) start() { c.queue.Schedule(&c.entry, instant.Now().Add(c.every), c) }

// Many come and go at random; each is called at its interval since it came, to the moment,
// and not once it has gone.
func TestEachIsCalledInItsTime(t *testing.T) {
	const interval = time.Second
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a schedule
				q := new(Queue)
				type stay struct {
					called
					from, to time.Time
				}
				var stays []*stay
				for range 500 {
					time.Sleep(time.Duration(random.Int64N(int64(interval / 100))))
					if len(stays) == 0 || random.IntN(3) > 0 {
						s := &stay{called: called{queue: q, every: interval}, from: time.Now()}
						s.start()
						stays = append(stays, s)
						continue
					}
					if s := stays[random.IntN(len(stays))]; s.to.IsZero() {
						synctest.Wait() // it may be called in this moment
						q.Stop(&s.entry)
						s.to = time.Now()
					}
				}
				time.Sleep(3*interval + interval/2)
				q.Close()
				closed := time.Now()
				time.Sleep(3 * interval)
				for i, s := range stays {
					if s.to.IsZero() {
						s.to = closed
					}
					var want []time.Time
					for at := s.from.Add(interval); !at.After(s.to); at = at.Add(interval) {
						want = append(want, at)
					}
					if !slices.EqualFunc(s.at, want, time.Time.Equal) {
						t.Errorf("entry %d, there from %v to %v, was called at %v", i, s.from, s.to, s.at)
					}
				}
			})
		})
	}
}

// What is scheduled anew counts, also where it comes before everything else.
func TestAnEntryCanBeScheduledAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, begin := new(Queue), time.Now()
		first, second := &called{queue: q}, &called{queue: q}
		schedule := func(c *called, after time.Duration) { q.Schedule(&c.entry, instant.Of(begin.Add(after)), c) }
		schedule(first, 2*time.Second)
		schedule(second, 3*time.Second)
		schedule(second, time.Second)
		schedule(first, 4*time.Second)
		time.Sleep(time.Minute)
		q.Close()
		for after, c := range map[time.Duration]*called{4 * time.Second: first, time.Second: second} {
			if len(c.at) != 1 || !c.at[0].Equal(begin.Add(after)) {
				t.Errorf("called at %v, want once, %v after %v", c.at, after, begin)
			}
		}
	})
}

// patient takes its time.
type patient struct{ begun, ended bool }

func (p *patient) Due() {
	p.begun = true
	time.Sleep(time.Second)
	p.ended = true
}

// Close waits for what it finds under way, and nobody is called after it.
func TestCloseWaitsForWhoIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := new(Queue)
		var first, second patient
		var places [2]Entry
		q.Schedule(&places[0], instant.Now(), &first)
		q.Schedule(&places[1], instant.Now(), &second)
		synctest.Wait() // one is being called
		q.Close()
		if first.begun != first.ended || second.begun != second.ended || first.begun == second.begun {
			t.Errorf("once it is closed they are %+v and %+v", first, second)
		}
		q.Schedule(&places[0], instant.Now(), &first)
		time.Sleep(time.Minute)
		if first.begun && second.begun {
			t.Error("one is called after that")
		}
	})
}
