// Package measure repeats pieces of work, collects what was measured of them, and
// prints it as one table. It knows nothing of what is measured.
package measure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Figure is one measured number of one run.
type Figure struct {
	Scenario string // "S1"
	Case     string // "1,000 subscribers"
	Subject  string // "entity-sync", "bare loop", "gorilla", "melody", "centrifuge", "bus client"
	Metric   string // "CPU per delivery"
	Unit     string // "µs"
	Value    float64
}

// Scenario is one piece of work; Run does it once for every subject and reports
// figures, each of them once.
type Scenario struct {
	Name, Work string
	Reference  string // the Subject that ratios are taken against
	Goals      []Goal
	Run        func(ctx context.Context, o Options, report func(Figure)) error
}

// Options are what every scenario is told.
type Options struct {
	Quick bool // less of everything: for a look, not for a claim
	Log   *slog.Logger
}

// Goal is what the figures of one metric are held against: their median, or the
// median of their ratios to the reference's figures, is not to be above Max, or,
// where there is no Max, not below Min.
type Goal struct {
	Case     string // empty for every case
	Subject  string
	Metric   string
	Ratio    bool
	Max, Min float64
}

// met reports whether it is met by a median, or by that of ratios.
func (g Goal) met(v float64) bool {
	if g.Max == 0 {
		return v >= g.Min
	}
	return v <= g.Max
}

// bound is the sign and the number of the goal.
func (g Goal) bound() (sign string, number float64) {
	if g.Max == 0 {
		return "≥", g.Min
	}
	return "≤", g.Max
}

// Run does each scenario a number of times, one after the other. What a run reports
// before it fails does not count. It returns what the others reported, and an error
// for each that failed.
func Run(ctx context.Context, scenarios []Scenario, runs int, o Options) (Results, error) {
	var r Results
	var errs []error
	for _, s := range scenarios {
		r.goals = append(r.goals, scenarioGoals{s.Name, s.Reference, s.Goals})
		for n := range runs {
			if err := ctx.Err(); err != nil {
				return r, errors.Join(append(errs, err)...)
			}
			o.Log.Info("running", slog.String("scenario", s.Name), slog.Int("run", n+1), slog.Int("of", runs))
			var figures []Figure
			if err := s.Run(ctx, o, func(f Figure) { figures = append(figures, f) }); err != nil {
				err = fmt.Errorf("%s, run %d of %d: %w", s.Name, n+1, runs, err)
				o.Log.Error("a run failed", slog.Any("error", err))
				errs = append(errs, err)
				continue
			}
			r.add(figures)
		}
	}
	return r, errors.Join(errs...)
}
