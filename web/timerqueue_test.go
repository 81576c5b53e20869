package web

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// asked is a session that has nothing but a send queue, and when its client was asked
// whether it is there.
type asked struct {
	*session
	client net.Conn
	at     []time.Time
	done   chan struct{}
}

func newAsked(h *Handler) *asked {
	server, client := net.Pipe()
	a := &asked{session: &session{handler: h, encoder: onV2}, client: client, done: make(chan struct{})}
	a.out = newSendQueue(server, a.session)
	a.silent = time.Now().Add(time.Hour)
	go a.listen()
	return a
}

func (a *asked) listen() {
	defer close(a.done)
	frame := make([]byte, len(pingFrame))
	for {
		if _, err := io.ReadFull(a.client, frame); err != nil {
			return
		}
		a.at = append(a.at, time.Now())
	}
}

func (a *asked) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nextPing = time.Now().Add(a.handler.config.PingInterval)
	a.handler.timers.schedule(a.session, a.nextPing)
}

func (a *asked) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	a.handler.timers.stop(a.session)
}

// Clients come and go at random; each is asked at the interval since it came, to the
// moment, and not once it has gone.
func TestEachClientIsAskedInItsTime(t *testing.T) {
	const interval = time.Second
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a schedule
				h := &Handler{config: Config{PingInterval: interval}.withDefaults(), flusher: newFlusher()}
				type stay struct {
					*asked
					from, to time.Time
				}
				var stays []*stay
				for range 500 {
					time.Sleep(time.Duration(random.Int64N(int64(interval / 100))))
					if len(stays) == 0 || random.IntN(3) > 0 {
						s := &stay{asked: newAsked(h), from: time.Now()}
						s.begin()
						stays = append(stays, s)
						continue
					}
					if s := stays[random.IntN(len(stays))]; s.to.IsZero() {
						s.end()
						s.to = time.Now()
					}
				}
				time.Sleep(3*interval + interval/2)
				h.timers.close()
				closed := time.Now()
				time.Sleep(3 * interval)
				for i, s := range stays {
					_ = s.client.Close()
					<-s.done
					if s.to.IsZero() {
						s.to = closed
					}
					var want []time.Time
					for at := s.from.Add(interval); at.Before(s.to); at = at.Add(interval) {
						want = append(want, at)
					}
					if !slices.EqualFunc(s.at, want, time.Time.Equal) {
						t.Errorf("client %d, there from %v to %v, was asked at %v", i, s.from, s.to, s.at)
					}
				}
				h.work.Wait()
				h.flusher.close()
			})
		})
	}
}

// What is set anew counts, also where it comes before everything else.
func TestAnAlarmCanBeSetAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Handler{config: Config{PingInterval: time.Hour}.withDefaults(), flusher: newFlusher()}
		begin := time.Now()
		first, second := newAsked(h), newAsked(h)
		h.timers.schedule(first.session, begin.Add(2*time.Second))
		h.timers.schedule(second.session, begin.Add(3*time.Second))
		h.timers.schedule(second.session, begin.Add(time.Second))
		h.timers.schedule(first.session, begin.Add(4*time.Second))
		time.Sleep(time.Minute)
		h.timers.close()
		for after, a := range map[time.Duration]*asked{4 * time.Second: first, time.Second: second} {
			_ = a.client.Close()
			<-a.done
			if len(a.at) != 1 || !a.at[0].Equal(begin.Add(after)) {
				t.Errorf("asked at %v, want once, %v after %v", a.at, after, begin)
			}
		}
		h.work.Wait()
		h.flusher.close()
	})
}
