package notify

import (
	"maps"
	"math"
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

// Each scenario runs to its end, and has a figure for the reference and for the
// node. What they are is not for a test to say.
func TestScenariosRun(t *testing.T) {
	for _, s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			about := map[string]int{}
			err := s.Run(t.Context(), measure.Options{Quick: true}, func(f measure.Figure) {
				t.Logf("%s %-40s %-20s %-30s %10.2f %s", f.Scenario, f.Case, f.Subject, f.Metric, f.Value, f.Unit)
				about[f.Subject]++
				if f.Scenario != s.Name || f.Case == "" || f.Metric == "" || math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
					t.Errorf("%+v is no figure", f)
				}
				if difference := f.Metric == cpuBeyond || f.Metric == heardLater; f.Value <= 0 && !difference {
					t.Errorf("%+v: nothing was measured", f)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if about[s.Reference] == 0 || about[node] == 0 {
				t.Errorf("figures about %v, want some about %s and %s", about, s.Reference, node)
			}
		})
	}
}
