// Package measure is what scenarios report, and how they are run.
package measure

import (
	"context"
	"log/slog"
)

// Figure is one measured number.
type Figure struct {
	Scenario, Case, Subject, Metric, Unit string
	Value                                 float64
}

// Scenario is one comparison of several subjects in the same run.
type Scenario struct {
	Name, Work string
	Reference  string // the Subject that ratios are taken against
	Run        func(ctx context.Context, o Options, report func(Figure)) error
}

// Options are the same for all scenarios.
type Options struct {
	Quick bool
	Log   *slog.Logger
}
