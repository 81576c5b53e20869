package main

import (
	"maps"
	"slices"
	"testing"
	"time"
)

func TestWhatAProcessSaysIsReadRight(t *testing.T) {
	for name, tt := range map[string]struct {
		output string
		took   map[string]time.Duration
		failed []string
	}{
		"the shortest run of each that passed": {`=== RUN   TestA
--- PASS: TestA (0.31s)
=== RUN   TestA
--- PASS: TestA (0.02s)
=== RUN   TestB
=== RUN   TestB/part
--- PASS: TestB (0.00s)
    --- PASS: TestB/part (0.00s)
PASS
`, map[string]time.Duration{"TestA": 20 * time.Millisecond, "TestB": 0}, nil},
		"a test is as slow as its slowest part": {`=== RUN   TestA
--- PASS: TestA (0.00s)
    --- PASS: TestA/one (1.20s)
        --- PASS: TestA/one/part (3.00s)
    --- PASS: TestA/two (0.00s)
--- PASS: TestB (0.01s)
--- PASS: TestA (0.00s)
    --- PASS: TestA/one (0.40s)
    --- PASS: TestA/two (0.50s)
`, map[string]time.Duration{"TestA": 500 * time.Millisecond, "TestB": 10 * time.Millisecond}, nil},
		"tests and their parts that failed": {`--- FAIL: TestA (0.31s)
    a_test.go:7: no
--- FAIL: TestB (0.00s)
    --- FAIL: TestB/part (0.00s)
FAIL
`, nil, []string{"TestA", "TestB", "TestB/part"}},
		"tests that ran when the time was over": {`--- PASS: TestA (0.31s)
panic: test timed out after 1s
	running tests:
		TestB (1s)
		TestC/part (0s)

goroutine 17 [running]:
`, map[string]time.Duration{"TestA": 310 * time.Millisecond}, []string{"TestB", "TestC/part"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := read(tt.output)
			if !maps.Equal(r.took, tt.took) || !slices.Equal(r.failed, tt.failed) {
				t.Errorf("took %v, failed %q; want %v and %q", r.took, r.failed, tt.took, tt.failed)
			}
		})
	}
}
