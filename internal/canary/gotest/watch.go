package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// watch knows which tests are under way, and ends the package of one that takes longer
// than the bound. A test is not under way while its subtests are, or while it waits
// for its turn among parallel ones. Its clock is that of an idle machine: where each
// core is wanted by ten threads, ten seconds are one. What a test logs does not count:
// what goes on in its background logs all the same.
type watch struct {
	bound time.Duration
	end   func(pkg string, how os.Signal) error

	now      time.Duration           // of the clock
	packages map[string]*packageTime // those that run
	done     int                     // how many have run
}

// packageTime is what is known of the time of a package that runs.
type packageTime struct {
	began map[string]time.Duration // of each test and "", the package: its start, or the end of a subtest
	waits map[string]bool          // tests that wait for their turn
	ended int                      // how often it was told to
}

func (w *watch) take(e event) {
	p := w.packages[e.Package]
	switch {
	case e.Action == "start":
		if w.packages == nil {
			w.packages = map[string]*packageTime{}
		}
		w.packages[e.Package] = &packageTime{began: map[string]time.Duration{"": w.now}, waits: map[string]bool{}}
	case p == nil: // such as one that does not compile
	case e.Test == "":
		if ended(e.Action) {
			delete(w.packages, e.Package)
			w.done++
		}
	case e.Action == "run" || e.Action == "cont":
		p.began[e.Test] = w.now
		delete(p.waits, e.Test)
	case e.Action == "pause":
		p.waits[e.Test] = true
	case ended(e.Action):
		delete(p.began, e.Test)
		p.began[p.parent(e.Test)] = w.now
	}
}

func ended(action string) bool { return action == "pass" || action == "fail" || action == "skip" }

// parent is the nearest that is known: the name of a test may have slashes itself.
func (p *packageTime) parent(name string) string {
	for {
		name = name[:max(0, strings.LastIndexByte(name, '/'))]
		if _, known := p.began[name]; known {
			return name
		}
	}
}

// underWay lists the tests that are, the longest first. It is the package itself, ""
// where none is.
func (p *packageTime) underWay() (tests []string) {
	parents := map[string]bool{}
	for name := range p.began {
		if name != "" {
			parents[p.parent(name)] = true
		}
	}
	for name := range p.began {
		if !parents[name] && !p.waits[name] {
			tests = append(tests, name)
		}
	}
	slices.SortFunc(tests, func(a, b string) int {
		if d := p.began[a] - p.began[b]; d != 0 {
			return int(d)
		}
		return strings.Compare(a, b)
	})
	return tests
}

// tick lets time pass, ends what hangs, and says what it has ended. contention is how
// many threads want each core.
func (w *watch) tick(passed time.Duration, contention float64) (hung []string) {
	if contention == 0 { // not known
		return nil
	}
	w.now += time.Duration(float64(passed) / contention)
	for name, p := range w.packages {
		tests := p.underWay()
		if len(tests) == 0 || w.now-p.began[tests[0]] <= w.bound {
			continue
		}
		p.began[tests[0]] = w.now // it has as long to end
		how := os.Signal(quit)
		if p.ended++; p.ended > 1 {
			how = os.Kill
		}
		says := fmt.Sprintf("%s hangs: it takes more than %s of an idle machine; what it does follows", test{name, tests[0]}, w.bound)
		if err := w.end(name, how); err != nil {
			says += fmt.Sprintf(" when go test ends it: %v", err)
		}
		hung = append(hung, says)
	}
	return hung
}

func (t test) String() string {
	if t.name == "" {
		return t.pkg + ", outside its tests,"
	}
	return t.pkg + " " + t.name
}

// contention is how many threads there are for each core, at least one, or 0 where the
// system does not tell.
func contention() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 4 {
		return 0
	}
	var running, threads float64
	if _, err := fmt.Sscanf(fields[3], "%g/%g", &running, &threads); err != nil {
		return 0
	}
	return max(1, (running-1)/float64(runtime.NumCPU())) // without the one that asks
}
