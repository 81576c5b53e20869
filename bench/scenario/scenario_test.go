package scenario

import (
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bench/broker"
	"github.com/entity-sync/entity-sync/bench/measure"
	"github.com/entity-sync/entity-sync/bench/process"
)

func TestMain(m *testing.M) {
	roles := Roles()
	maps.Copy(roles, broker.Roles())
	process.Main(roles)
	goleak.VerifyTestMain(m)
}

// Each scenario runs to its end with real processes, each goal is one of a figure
// that there is, and each profile is written. What the figures are is not for a
// test to say.
func TestScenarios(t *testing.T) {
	s := Suite{Profiles: t.TempDir(), Tiny: true}
	for _, scenario := range s.Scenarios() {
		t.Run(scenario.Name, func(t *testing.T) {
			var figures []measure.Figure
			o := measure.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
			if err := scenario.Run(t.Context(), o, func(f measure.Figure) { figures = append(figures, f) }); err != nil {
				t.Fatal(err)
			}
			seen := map[measure.Figure]bool{}
			for _, f := range figures {
				t.Logf("%s, %s, %s: %s %v %s", f.Scenario, f.Case, f.Subject, f.Metric, f.Value, f.Unit)
				if f.Scenario != scenario.Name || f.Case == "" || math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
					t.Errorf("%+v is no figure", f)
				}
				if f.Value = 0; seen[f] {
					t.Errorf("%+v was reported twice", f)
				}
				seen[f] = true
			}
			for _, g := range scenario.Goals {
				if !hasFigure(figures, g.Subject, g.Metric) || g.Ratio && !hasFigure(figures, scenario.Reference, g.Metric) {
					t.Errorf("no figure is held against %+v", g)
				}
			}
			profiles, err := filepath.Glob(filepath.Join(s.Profiles, scenario.Name+"-*.pprof"))
			if err != nil || len(profiles) == 0 && scenario.Name != "S2" { // in which nothing happens
				t.Errorf("there are no profiles: %v", err)
			}
		})
	}
}

func hasFigure(figures []measure.Figure, subject, metric string) bool {
	for _, f := range figures {
		if f.Subject == subject && f.Metric == metric && f.Value != 0 {
			return true
		}
	}
	return false
}
