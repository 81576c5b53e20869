package reconsider_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/reconsider"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is what has the sessions.
type house struct {
	work     sync.WaitGroup
	leaving  context.Context
	sessions []*session
}

func (h *house) start(t *testing.T, every time.Duration, n int) *reconsider.Rounds {
	ctx, cancel := context.WithCancel(context.Background())
	h.leaving = ctx
	for i := range n {
		h.sessions = append(h.sessions, &session{number: uint64(i)}) //nolint:gosec // small
	}
	t.Cleanup(func() {
		cancel()
		h.work.Wait()
	})
	return reconsider.New(reconsider.Config{
		Every: every, Leaving: ctx,
		Start: func(work func()) bool {
			h.work.Go(work)
			return true
		},
		Sessions: func() (list []reconsider.Session) {
			for _, s := range h.sessions {
				list = append(list, s)
			}
			return list
		},
	})
}

type session struct {
	number uint64
	block  chan struct{} // nil: answers at once

	mu    sync.Mutex
	asked []bool // about "news.uk", of each call
}

func (s *session) Number() uint64 { return s.number }

func (s *session) Reconsider(about func(shared.Topic) bool) {
	if s.block != nil {
		<-s.block
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, about("news.uk"))
}

func (s *session) calls() []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// In a period each session has one turn, and the turns are spread evenly.
func TestEachSessionHasItsTurnInAPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 10
		var h house
		r := h.start(t, 64*time.Second, 64*each)
		time.Sleep(time.Hour)
		synctest.Wait()
		r.Begin()
		total := func() (n int) {
			for _, s := range h.sessions {
				n += len(s.calls())
			}
			return n
		}
		if n := total(); n != 0 {
			t.Fatalf("%d calls before there was a subscription", n)
		}
		synctest.Wait()
		for i := range 64 {
			time.Sleep(time.Second)
			synctest.Wait()
			if n := total(); n != (i+1)*each {
				t.Fatalf("after %d s there were %d calls, want %d", i+1, n, (i+1)*each)
			}
		}
		for _, s := range h.sessions {
			if got := s.calls(); !slices.Equal(got, []bool{true}) {
				t.Errorf("session %d was asked %v, want once about everything", s.number, got)
			}
		}
	})
}

// What is heard is asked about at, below and above a topic, at once, and never by itself without a period.
func TestARoundIsAboutATopicAndThoseBelowAndAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h house
		r := h.start(t, 0, 1)
		s := h.sessions[0]
		r.Hear("news") // nobody has a topic yet
		r.Begin()
		synctest.Wait()
		if got := s.calls(); len(got) != 0 {
			t.Errorf("asked %v before there was a subscription", got)
		}
		for i, c := range []struct {
			topic shared.Topic
			want  bool
		}{{"news", true}, {"news.uk", true}, {"news.uk.london", true}, {"news.fr", false}, {"new", false}, {"news.u", false}, {"*", true}} {
			r.Hear(c.topic)
			synctest.Wait()
			if got := s.calls(); len(got) != i+1 || got[i] != c.want {
				t.Errorf("%s: asked about news.uk: %v, want %v", c.topic, got, c.want)
			}
		}
		if r.Heard() != 8 {
			t.Errorf("heard %d", r.Heard())
		}
		before := len(s.calls())
		time.Sleep(time.Hour)
		if got := s.calls(); len(got) != before {
			t.Errorf("asked %d times more by itself", len(got)-before)
		}
	})
}

// Sessions whose answers are slow hold up neither a later round nor the rounds of the period.
func TestSlowAnswersHoldUpNoOtherSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h house
		r := h.start(t, 64*time.Second, 65)
		for _, s := range h.sessions[:63] {
			s.block = make(chan struct{})
		}
		r.Begin()
		r.Hear("news")
		synctest.Wait()
		r.Hear("news.uk")
		synctest.Wait()
		for _, s := range h.sessions[63:] {
			if n := len(s.calls()); n == 0 {
				t.Errorf("session %d was not asked about", s.number)
			}
		}
		for _, s := range h.sessions[:63] {
			close(s.block)
		}
		time.Sleep(64 * time.Second)
		synctest.Wait()
		for _, s := range h.sessions {
			if n := len(s.calls()); n < 3 {
				t.Errorf("session %d was asked about %d times, want for each call and once in the period", s.number, n)
			}
		}
	})
}

// While all places are taken, what is heard waits, with no more topics than are bounded, and none is
// lost.
func TestWhatIsHeardWhileAllPlacesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h house
		r := h.start(t, 0, 65)
		for _, s := range h.sessions[:64] {
			s.block = make(chan struct{})
		}
		s := h.sessions[64]
		r.Begin()
		r.Hear("a")
		synctest.Wait() // all places are taken
		for range 3000 {
			r.Hear(shared.Topic("b." + time.Now().Format("150405.000000")))
			time.Sleep(time.Microsecond)
		}
		r.Hear("news")
		for _, blocked := range h.sessions[:64] {
			close(blocked.block)
		}
		synctest.Wait()
		if got := s.calls(); !slices.Contains(got, true) || !slices.Contains(got, false) { // in the order in which they ended
			t.Errorf("asked about news.uk: %v, want yes and no", got)
		}
	})
}
