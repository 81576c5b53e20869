package main

import (
	"regexp"
	"strings"
	"time"
)

// result is what one process said.
type result struct {
	took   map[string]time.Duration // the shortest run of each test that passed
	failed []string                 // a name for each failure
}

var (
	passedLine  = regexp.MustCompile(`^--- PASS: (\S+) \((\d+\.\d+)s\)`)
	failedLine  = regexp.MustCompile(`--- FAIL: (\S+) \(`)
	runningLine = regexp.MustCompile(`^\t\t?(\S+) \(\d.*s\)$`)
)

// read takes a process's output apart. The tests that were running when the time was
// over have failed.
func read(output string) result {
	r := result{took: map[string]time.Duration{}}
	running := false
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		if m := passedLine.FindStringSubmatch(line); m != nil {
			took, err := time.ParseDuration(m[2] + "s")
			if shortest, known := r.took[m[1]]; err == nil && (!known || took < shortest) {
				r.took[m[1]] = took
			}
			continue
		}
		if m := failedLine.FindStringSubmatch(line); m != nil {
			r.failed = append(r.failed, m[1])
			continue
		}
		if strings.Contains(line, "running tests:") { // of a process that took too long
			running = true
			continue
		}
		m := runningLine.FindStringSubmatch(line)
		if running = running && m != nil; running {
			r.failed = append(r.failed, m[1])
		}
	}
	return r
}
