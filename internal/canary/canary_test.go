package canary

import (
	"fmt"
	"sync"
	"testing"
)

// A goroutine may write to the output of a test that has ended, and is ending.
func TestATestsOutputOutlivesTheTest(t *testing.T) {
	var writers sync.WaitGroup
	stop := make(chan struct{})
	t.Run("a test", func(t *testing.T) {
		began := make(chan struct{})
		to := Output(t)
		writers.Go(func() {
			for line := 0; ; line++ {
				fmt.Fprintln(to, "line", line)
				if line == 0 {
					close(began)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		<-began
	})
	close(stop)
	writers.Wait()
}
