package echo_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/echo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is a broker and the subscription to it: what is published comes back after a
// time, unless it is cut.
type line struct {
	ear *echo.Ear

	mu        sync.Mutex
	delay     time.Duration
	ack       time.Duration // that acknowledging takes
	cut       bool          // nothing comes back
	down      bool          // nothing is acknowledged
	published int
	answered  int
}

// change changes the line, or reads it.
func (l *line) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// listen runs the ear of l until it is silent or the test is over.
func (l *line) listen(t *testing.T) (verdict <-chan error) {
	t.Helper()
	l.ear = echo.New("me", "items", l.publish)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		synctest.Wait()
	})
	ended := make(chan error, 1)
	go func() { ended <- l.ear.Listen(ctx, func() { l.change(func() { l.answered++ }) }) }()
	return ended
}

func (l *line) publish(ctx context.Context, body []byte) error {
	var ack time.Duration
	l.change(func() { ack = l.ack })
	select {
	case <-time.After(ack):
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return errors.New("down")
	}
	l.published++
	if !l.cut {
		time.AfterFunc(l.delay, func() { l.ear.Hear(body) })
	}
	return nil
}

// silentAfter returns how long it took until the subscription counted as silent; no
// longer than a minute is waited.
func silentAfter(verdict <-chan error) (took time.Duration, silent bool) {
	begin := time.Now()
	select {
	case err := <-verdict:
		return time.Since(begin), errors.Is(err, echo.ErrSilent)
	case <-time.After(time.Minute):
		return time.Minute, false
	}
}

func TestASubscriptionThatFallsSilentIsNoticedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{delay: time.Millisecond}
		verdict := l.listen(t)
		time.Sleep(time.Minute)
		l.change(func() { l.cut = true })
		took, silent := silentAfter(verdict)
		if !silent || took > echo.Patience {
			t.Errorf("silent: %v, after %v, want it within %v", silent, took, echo.Patience)
		}
		l.change(func() {}) // and what was counted is seen
		if l.answered < 30 {
			t.Errorf("heard %d echoes in the minute before, want one a second or so", l.answered)
		}
	})
}

func TestASubscriptionThatIsSilentFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{cut: true}
		verdict := l.listen(t)
		if took, silent := silentAfter(verdict); !silent || took > echo.Patience {
			t.Errorf("silent: %v, after %v, want it within %v", silent, took, echo.Patience)
		}
		l.change(func() {})
		if l.answered != 0 {
			t.Error("it was said to hear")
		}
	})
}

// What a broker does not acknowledge it need not hand on.
func TestWithoutAnAcknowledgementNothingIsConcluded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{delay: time.Millisecond}
		verdict := l.listen(t)
		time.Sleep(time.Minute)
		l.change(func() { l.cut, l.down = true, true })
		if _, silent := silentAfter(verdict); silent {
			t.Error("a broker that is down was taken for a silent one")
		}
		l.change(func() { l.down = false })
		if _, silent := silentAfter(verdict); !silent {
			t.Error("a silent broker was taken for one that is down")
		}
	})
}

// A machine without a processor to spare does everything late: the broker
// acknowledges late, and what it hands on comes later still.
func TestASlowSubscriptionIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{ack: 5 * time.Second, delay: 1900 * time.Millisecond}
		verdict := l.listen(t)
		if took, silent := silentAfter(verdict); silent {
			t.Errorf("a slow subscription was taken for a silent one after %v", took)
		}
	})
}

// One node's echo tells all: those that hear it have nothing to ask for a while.
func TestAMessageOfOthersSavesTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{delay: time.Millisecond}
		verdict := l.listen(t)
		others := time.NewTicker(200 * time.Millisecond)
		defer others.Stop()
		end := time.After(100 * time.Second)
		for ended := false; !ended; {
			select {
			case <-others.C:
				l.ear.Hear([]byte(`{"entity":"items","id":"100"}`))
			case err := <-verdict:
				t.Fatal(err)
			case <-end:
				ended = true
			}
		}
		l.change(func() {})
		if l.published < 9 || l.published > 11 {
			t.Errorf("published %d echoes in 100 s, want one in about ten", l.published)
		}
	})
}

// Others are heard, and this node is not: what it publishes goes elsewhere.
func TestHearingOthersAloneIsSilenceInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{delay: time.Millisecond}
		verdict := l.listen(t)
		time.Sleep(time.Minute)
		l.change(func() { l.cut = true })
		others := time.NewTicker(200 * time.Millisecond)
		defer others.Stop()
		begin := time.Now()
		for {
			select {
			case <-others.C:
				l.ear.Hear([]byte(`{"entity":"items","id":"100"}`))
				if time.Since(begin) > 30*time.Second {
					t.Fatal("never noticed")
				}
				continue
			case err := <-verdict:
				if took := time.Since(begin); !errors.Is(err, echo.ErrSilent) || took < 5*time.Second {
					t.Errorf("ended with %v after %v, want silence, and not before a flood can be over", err, took)
				}
			}
			break
		}
	})
}

// Only echoes are kept from listeners, those of other nodes too; and an echo is a beat
// for a node that knows of none.
func TestWhatIsAnEcho(t *testing.T) {
	var body []byte
	ctx, cancel := context.WithCancel(t.Context())
	mine := echo.New("me", "items", func(_ context.Context, b []byte) error {
		body = b
		cancel()
		return nil
	})
	if err := mine.Listen(ctx, func() {}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	other := echo.New("other", "items", nil)
	if !mine.Hear(body) || !other.Hear(body) {
		t.Errorf("%s is not taken for an echo", body)
	}
	for _, text := range []string{``, `{`, `{"entity":"items","id":"100"}`, `{"entity":"items","from":"me","seq":1}`, `{"ech":"`} {
		if mine.Hear([]byte(text)) {
			t.Errorf("%q is taken for an echo", text)
		}
	}
	var beat map[string]any
	if err := json.Unmarshal(body, &beat); err != nil || beat["entity"] != "items" || beat["from"] != "me" || beat["seq"] != 1.0 || beat["id"] != nil {
		t.Errorf("%s is no beat of me on items: %v", body, err)
	}
}
