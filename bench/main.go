// Command bench measures Entity Sync beside others, and prints one table: see
// bench/README.md. It needs Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/entity-sync/entity-sync/bench/broker"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/notify"
	"github.com/entity-sync/entity-sync/bench/process"
	"github.com/entity-sync/entity-sync/bench/scenario"
)

func main() {
	process.Main(roles())
	runs := flag.Int("runs", 3, "how often each scenario runs")
	quick := flag.Bool("quick", false, "less of everything: for a look, not for a claim")
	only := flag.String("only", "", "the scenarios to run, such as S1,S3; all without it")
	profiles := flag.String("cpuprofile", "", "a `folder` for CPU profiles of the servers under test")
	out := flag.String("out", "", "a `file` that the table is added to as well, such as bench/results/2026-11-30.md")
	flag.Usage = usage
	flag.Parse()
	// Whoever ends this in another way than with Ctrl-C has what it started ended as well.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, *runs, *only, *profiles, *out, *quick)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// roles are what this program can be started as by itself.
func roles() map[string]process.Role {
	all := scenario.Roles()
	maps.Copy(all, notify.Roles())
	maps.Copy(all, broker.Roles())
	return all
}

func usage() {
	w := flag.CommandLine.Output()
	fmt.Fprintf(w, "Usage of %s:\n", os.Args[0])
	flag.PrintDefaults()
	fmt.Fprintln(w, "The scenarios, of which bench/README.md says more:")
	for _, s := range scenarios("") {
		fmt.Fprintf(w, "  %s\t%s\n", s.Name, s.Work)
	}
}

// scenarios returns all there are, by name.
func scenarios(profiles string) []measure.Scenario {
	all := append(scenario.Suite{Profiles: profiles}.Scenarios(), notify.Scenarios()...)
	slices.SortFunc(all, func(a, b measure.Scenario) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func run(ctx context.Context, runs int, only, profiles, out string, quick bool) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("%q is no flag: scenarios are chosen with -only", flag.Arg(0))
	}
	if runs < 1 {
		return fmt.Errorf("%d runs measure nothing", runs)
	}
	chosen, err := choose(scenarios(profiles), only)
	if err != nil {
		return err
	}
	if profiles != "" {
		if err := makeFolder(profiles); err != nil {
			return err
		}
	}
	tables := []io.Writer{os.Stdout}
	if out != "" {
		// Before anything is measured: else an hour's figures would be lost on a misspelt path.
		f, err := os.OpenFile(out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // results are for everybody to read
		if err != nil {
			return err
		}
		defer f.Close()
		fmt.Fprintln(f) // a paragraph of its own, after the table of an earlier run
		tables = append(tables, f)
	}
	begin := time.Now()
	results, failed := measure.Run(ctx, chosen, runs, measure.Options{Quick: quick, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	incomplete := ""
	if failed != nil {
		incomplete = ", **not all to their end**"
	}
	table := io.MultiWriter(tables...)
	fmt.Fprintf(table, "%s, commit %s, on %s, runs: %d%s, in %v: `%s`\n\n", begin.Format(time.DateOnly), commit(), machine(), runs, incomplete, time.Since(begin).Round(time.Second), command())
	return errors.Join(results.WriteTable(table), failed)
}

// choose returns those of the scenarios that are asked for by name, or all.
func choose(all []measure.Scenario, only string) (some []measure.Scenario, err error) {
	if only == "" {
		return all, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(s measure.Scenario) bool { return strings.EqualFold(s.Name, name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q, only %s to %s", name, all[0].Name, all[len(all)-1].Name)
		}
		some = append(some, all[i])
	}
	return some, nil
}

// makeFolder makes a folder where there is none, and sees that it can be written to:
// else that would show only after a server has been started for it.
func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(path, "")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// command is how to run this again.
func command() string {
	if len(os.Args) == 1 {
		return "make bench"
	}
	return fmt.Sprintf("make bench FLAGS=%q", strings.Join(os.Args[1:], " "))
}
