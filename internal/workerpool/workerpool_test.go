package workerpool

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func (c *Pool) atRest() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}

// All runs at once, however much there is; few goroutines stay, and run what comes
// next.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Pool
		var ran, running atomic.Int64
		goOn := make(chan bool)
		const many = 10 * maxIdle
		for range 3 {
			for range many {
				c.Go(func() {
					running.Add(1)
					<-goOn
					running.Add(-1)
					ran.Add(1)
				})
			}
			synctest.Wait()
			if n := running.Load(); n != many {
				t.Fatalf("%d run, want %d", n, many)
			}
			for range many {
				goOn <- true
			}
			synctest.Wait()
			if n := c.atRest(); n != maxIdle {
				t.Fatalf("%d rest, want %d", n, maxIdle)
			}
		}
		c.Go(func() { ran.Add(1) })
		synctest.Wait()
		if n := c.atRest(); n != maxIdle {
			t.Errorf("%d rest, want %d", n, maxIdle)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := ran.Load(); n != 3*many+1 {
			t.Errorf("%d have run, want %d", n, 3*many+1)
		}
	})
}

// What ends its goroutine does not end others.
func TestGoexit(t *testing.T) {
	var c Pool
	var work sync.WaitGroup
	for i := range 100 {
		work.Add(1)
		c.Go(func() {
			defer work.Done()
			if i%2 == 0 {
				runtime.Goexit()
			}
		})
	}
	work.Wait()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What is given to a Pool that refuses does not run; what it has taken goes on.
func TestAPoolThatRefuses(t *testing.T) {
	var c Pool
	goOn, ended := make(chan bool), make(chan bool)
	if !c.Go(func() { <-goOn; close(ended) }) {
		t.Fatal("a new pool refuses work")
	}
	c.Refuse()
	if c.Go(func() { t.Error("it runs what it has refused") }) {
		t.Error("it takes work")
	}
	close(goOn)
	<-ended
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if c.Go(func() { t.Error("it runs what it was given when it was closed") }) {
		t.Error("it takes work when it is closed")
	}
}

func TestCloseWaitsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Pool
		goOn := make(chan bool)
		c.Go(func() { <-goOn })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close returns %v", err)
		}
		goOn <- true
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// deep needs more stack than a new goroutine has.
func deep(n int) int {
	var room [256]byte
	if n == 0 {
		return int(room[0])
	}
	return deep(n-1) + int(room[n])
}

// BenchmarkGo is work with a stack of some 8 KiB, one piece after the other.
func BenchmarkGo(b *testing.B) {
	done := make(chan int, 1)
	work := func() { done <- deep(20) }
	b.Run("pool", func(b *testing.B) {
		var c Pool
		for b.Loop() {
			c.Go(work)
			<-done
		}
		if err := c.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	b.Run("go", func(b *testing.B) {
		for b.Loop() {
			go work()
			<-done
		}
	})
}
