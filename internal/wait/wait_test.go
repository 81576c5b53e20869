package wait

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		if err := For(t.Context(), &wg); err != nil {
			t.Errorf("with nothing to wait for: %v", err)
		}
		wg.Go(func() { time.Sleep(time.Minute) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := For(ctx, &wg); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("within a second of a minute's work: %v after %v", err, time.Since(begin))
		}
		if err := For(t.Context(), &wg); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("without a limit: %v after %v", err, time.Since(begin))
		}
	})
}
