package canary

import (
	"os"
	"testing"
)

// What is written once the test has ended does not come to the test, which package testing
// would take for a race.
func TestOutputOutlivesItsTest(t *testing.T) {
	var o *output
	t.Run("a test", func(t *testing.T) {
		o = Output(t).(*output)
		if o.to == os.Stderr {
			t.Error("a test's output does not come to the test")
		}
	})
	if o.to != os.Stderr {
		t.Error("a test that has ended is still written to")
	}
}
