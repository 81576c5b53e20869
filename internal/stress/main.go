// Command stress runs the tests of one package again and again, with the race
// detector, with one processor and with four, beside a loop that is always busy: a
// test that depends on a random choice or on the machine's speed fails there sooner.
// It prints a row of a table, and keeps what failing runs wrote.
//
//	stress [flags] DIR
//
// The whole suite is run first; what took less than a tenth of a second there runs
// more often, by itself. All numbers are for one processor, and again for four. An
// interrupt ends it with the row of what was run until then.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fast is how long a test may take and still be run by itself.
const fast = 100 * time.Millisecond

// chunk is how often one process runs the fast tests. A crash ends the rest of its chunk.
const chunk = 50

func main() {
	s := stress{out: os.Stdout}
	flag.IntVar(&s.runs, "runs", 500, "how often each test runs that takes less than a tenth of a second")
	flag.IntVar(&s.suites, "suites", 20, "how often the whole suite runs")
	flag.DurationVar(&s.limit, "for", 0, "start nothing more after this time (0: no limit); the row says how often things ran")
	flag.DurationVar(&s.timeout, "timeout", 10*time.Minute, "how long one run of the suite may take")
	flag.IntVar(&s.busy, "busy", 1, "how many loops are busy beside the tests: 0 on a machine that is busy already")
	flag.StringVar(&s.kept, "kept", "bin/stress", "where the output of failing runs is kept")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: stress [flags] DIR")
		flag.PrintDefaults()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := s.run(ctx, flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "stress:", err)
		os.Exit(1) //nolint:gocritic // the signals' handler ends with the process
	}
	if failed {
		os.Exit(1)
	}
}

type stress struct {
	runs, suites   int
	busy           int
	limit, timeout time.Duration
	kept           string
	out            io.Writer

	dir, binary string
	until       time.Time // zero: no limit
	failures    map[string]int
	took        map[string]time.Duration // the shortest run of each test
}

// run prints the row of the package in dir, and reports whether anything failed.
func (s *stress) run(ctx context.Context, dir string) (failed bool, err error) {
	s.dir, s.failures, s.took = dir, map[string]int{}, map[string]time.Duration{}
	if s.kept, err = filepath.Abs(s.kept); err != nil {
		return false, err
	}
	if err := os.MkdirAll(s.kept, 0o700); err != nil {
		return false, err
	}
	name := strings.ReplaceAll(filepath.Clean(dir), string(filepath.Separator), "_")
	s.binary = filepath.Join(s.kept, name+".test")
	if err := s.build(ctx); err != nil {
		return false, err
	}
	if s.limit > 0 {
		s.until = time.Now().Add(s.limit)
	}
	defer s.beBusy()()

	suites, err := s.repeat(ctx, s.suites, 1, ".")
	if err != nil && ctx.Err() == nil {
		return false, err
	}
	tests := s.fast()
	runs := 0
	if len(tests) > 0 {
		if runs, err = s.repeat(ctx, s.runs, chunk, "^("+strings.Join(tests, "|")+")$"); err != nil && ctx.Err() == nil {
			return false, err
		}
	}
	fmt.Fprintf(s.out, "| %s | %d × %d | %d | %s |\n", filepath.Clean(dir), len(tests), runs, suites, s.failed())
	return len(s.failures) > 0, nil
}

// beBusy starts the busy loops, which end with the function that it returns, and with
// the process.
func (s *stress) beBusy() (end func()) {
	enough := make(chan struct{})
	var loops sync.WaitGroup
	for range s.busy {
		loops.Go(func() {
			for {
				select {
				case <-enough:
					return
				default:
				}
			}
		})
	}
	return func() {
		close(enough)
		loops.Wait()
	}
}

func (s *stress) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-race", "-o", s.binary, ".") //nolint:gosec // a file of this program's own
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the tests of %s: %w\n%s", s.dir, err, out)
	}
	if _, err := os.Stat(s.binary); err != nil {
		return fmt.Errorf("%s has no tests: %w", s.dir, err)
	}
	return nil
}

// repeat runs the tests that pattern names until they have run times times, each
// process several times, and returns how often they did.
func (s *stress) repeat(ctx context.Context, times, each int, pattern string) (int, error) {
	for done := 0; done < times; {
		if !s.until.IsZero() && time.Now().After(s.until) || ctx.Err() != nil {
			return done, ctx.Err()
		}
		n := min(each, times-done)
		if err := s.once(ctx, n, pattern); err != nil {
			return done, err
		}
		done += n
	}
	return times, nil
}

// once runs one process. A test that fails is noted, and is no error.
func (s *stress) once(ctx context.Context, count int, pattern string) error {
	cmd := exec.CommandContext(ctx, s.binary, "-test.paniconexit0", "-test.v", "-test.run", pattern, //nolint:gosec // built above
		"-test.count", strconv.Itoa(count), "-test.cpu", "1,4", "-test.timeout", (2 * s.timeout).String())
	cmd.Dir = s.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // with its stacks
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	r := read(string(out))
	for test, took := range r.took {
		if shortest, known := s.took[test]; !known || took < shortest {
			s.took[test] = took
		}
	}
	if err == nil {
		return nil
	}
	if len(r.failed) == 0 { // such as for a goroutine that was left, or a crash
		r.failed = []string{"(exit)"}
	}
	for _, test := range r.failed {
		s.failures[test]++
	}
	f, err := os.CreateTemp(s.kept, filepath.Base(s.binary)+".*.txt")
	if err != nil {
		return err
	}
	_, err = f.Write(out)
	return errors.Join(err, f.Close())
}

// fast returns the tests that took less than a tenth of a second once.
func (s *stress) fast() []string {
	var tests []string
	for test, took := range s.took {
		if took < fast {
			tests = append(tests, test)
		}
	}
	slices.Sort(tests)
	return tests
}

// failed says which tests failed, and how often.
func (s *stress) failed() string {
	if len(s.failures) == 0 {
		return "none"
	}
	var words []string
	for _, test := range slices.Sorted(maps.Keys(s.failures)) {
		words = append(words, fmt.Sprintf("%s (%d)", test, s.failures[test]))
	}
	return strings.Join(words, ", ")
}
