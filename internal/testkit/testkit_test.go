package testkit

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWithinReturnsAsSoonAsItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{0, time.Millisecond, time.Second, 50 * time.Second} {
			begin := time.Now()
			held := Within(time.Minute, func() bool { return time.Since(begin) >= after })
			if took := time.Since(begin); !held || took > after+10*time.Millisecond {
				t.Errorf("it returned %v after %v, for something that holds after %v", held, took, after)
			}
		}
	})
}

func TestWithinGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		held := Within(time.Second, func() bool { return false })
		if took := time.Since(begin); held || took < time.Second || took > 2*time.Second {
			t.Errorf("it returned %v after %v, want false after a second", held, took)
		}
	})
}

func TestABufferOfSeveralWriters(t *testing.T) {
	var b Buffer
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 100 {
				_, _ = b.Write([]byte("line\n"))
				_ = b.String()
			}
		})
	}
	writers.Wait()
	if n := b.Count("line\n"); n != 400 {
		t.Errorf("it has %d lines, want 400", n)
	}
}
