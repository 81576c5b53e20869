package measure

import (
	"slices"
)

// Results are the figures of several runs.
type Results struct {
	goals []scenarioGoals
	rows  []*row // in the order in which they were first reported
	runs  int
}

type scenarioGoals struct {
	scenario, reference string
	goals               []Goal
}

// row is one metric of one subject, over all runs.
type row struct {
	Figure                 // without its value
	values map[int]float64 // by run
}

// add takes the figures of one run.
func (r *Results) add(figures []Figure) {
	run := r.runs
	r.runs++
	for _, f := range figures {
		v := f.Value
		f.Value = 0
		r.row(f).values[run] = v
	}
}

func (r *Results) row(f Figure) *row {
	for _, had := range r.rows {
		if had.Figure == f {
			return had
		}
	}
	added := &row{f, make(map[int]float64)}
	r.rows = append(r.rows, added)
	return added
}

// reference returns the row that f's ratios are taken against, which is nil where
// the reference has no such figure, or f is its own.
func (r *Results) reference(f Figure) *row {
	for _, g := range r.goals {
		if g.scenario != f.Scenario || g.reference == f.Subject {
			continue
		}
		f.Subject = g.reference
		for _, had := range r.rows {
			if had.Figure == f {
				return had
			}
		}
	}
	return nil
}

// goal returns the first goal for f.
func (r *Results) goal(f Figure) (Goal, bool) {
	for _, s := range r.goals {
		if s.scenario != f.Scenario {
			continue
		}
		for _, g := range s.goals {
			if g.Subject == f.Subject && g.Metric == f.Metric && (g.Case == "" || g.Case == f.Case) {
				return g, true
			}
		}
	}
	return Goal{}, false
}

// spread is what is said of several values of the same thing.
type spread struct{ median, min, max float64 }

func (w *row) spread() spread {
	values := make([]float64, 0, len(w.values))
	for _, v := range w.values {
		values = append(values, v)
	}
	return spreadOf(values)
}

// ratios is the spread of what each run says of w and of of, and false where no
// run says anything of both.
func (w *row) ratios(of *row) (spread, bool) {
	var values []float64
	for run, v := range w.values {
		if ref, both := of.values[run]; both && ref != 0 {
			values = append(values, v/ref)
		}
	}
	if len(values) == 0 {
		return spread{}, false
	}
	return spreadOf(values), true
}

func spreadOf(values []float64) spread {
	slices.Sort(values)
	n := len(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}
