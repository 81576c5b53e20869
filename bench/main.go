// Command bench measures Entity Sync beside others, and prints one table: see
// docs/performance.md. It needs Linux.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/entity-sync/entity-sync/bench/broker"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/notify"
	"github.com/entity-sync/entity-sync/bench/process"
	"github.com/entity-sync/entity-sync/bench/scenario"
)

func main() {
	roles := scenario.Roles()
	maps.Copy(roles, notify.Roles())
	maps.Copy(roles, broker.Roles())
	process.Main(roles)
	runs := flag.Int("runs", 3, "how often each scenario runs")
	quick := flag.Bool("quick", false, "less of everything: for a look, not for a claim")
	only := flag.String("only", "", "the scenarios to run, such as S1,S3; all without it")
	profiles := flag.String("cpuprofile", "", "a `folder` for CPU profiles of the servers under test")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *runs, *only, *profiles, *quick)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, runs int, only, profiles string, quick bool) error {
	all := append(scenario.Suite{Profiles: profiles}.Scenarios(), notify.Scenarios()...)
	slices.SortFunc(all, func(a, b measure.Scenario) int { return strings.Compare(a.Name, b.Name) })
	scenarios, err := chosen(all, only)
	if err != nil {
		return err
	}
	if profiles != "" {
		if err := os.MkdirAll(profiles, 0o750); err != nil {
			return err
		}
	}
	begin := time.Now()
	results, failed := measure.Run(ctx, scenarios, runs, measure.Options{Quick: quick, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	fmt.Printf("%s, on %s, runs: %d, in %v: `%s`\n\n", begin.Format(time.DateOnly), machine(), runs, time.Since(begin).Round(time.Second), command())
	if err := results.WriteTable(os.Stdout); err != nil {
		return err
	}
	return failed
}

// chosen returns those of the scenarios that are asked for by name, or all.
func chosen(all []measure.Scenario, only string) (some []measure.Scenario, err error) {
	if only == "" {
		return all, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(s measure.Scenario) bool { return strings.EqualFold(s.Name, name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q", name)
		}
		some = append(some, all[i])
	}
	return some, nil
}

// command is how to run this again.
func command() string { return strings.Join(append([]string{"go run ./bench"}, os.Args[1:]...), " ") }
