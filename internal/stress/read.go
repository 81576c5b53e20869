package main

import (
	"regexp"
	"strings"
	"time"
)

// result is what was read from the output of one process.
type result struct {
	took   map[string]time.Duration // the shortest run of each test that passed
	failed []string                 // a name for each failure
}

var (
	passedLine  = regexp.MustCompile(`^( *)--- PASS: (\S+) \((\d+\.\d+)s\)`)
	failedLine  = regexp.MustCompile(`--- FAIL: (\S+) \(`)
	runningLine = regexp.MustCompile(`^\t\t?(\S+) \(\d.*s\)$`)
)

// read takes a process's output apart. The tests that were running when the time was
// over have failed.
func read(output string) result {
	r := result{took: map[string]time.Duration{}}
	running := false
	var test string // that passed last
	var took time.Duration
	note := func() {
		if shortest, known := r.took[test]; test != "" && (!known || took < shortest) {
			r.took[test] = took
		}
		test, took = "", 0
	}
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		if m := passedLine.FindStringSubmatch(line); m != nil {
			if m[1] == "" {
				note()
				test = m[2]
			}
			// The time of a test is without that of its parallel parts, which follow it.
			if t, err := time.ParseDuration(m[3] + "s"); err == nil && strings.HasPrefix(m[2]+"/", test+"/") {
				took = max(took, t)
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
	note()
	return r
}
