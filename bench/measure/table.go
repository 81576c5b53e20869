package measure

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// WriteTable writes all results as one table in Markdown: of each case and metric
// a line for every subject, with the ratio to the reference in the same run.
func (r *Results) WriteTable(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "| | case | metric | subject | median | min – max | × reference (min – max) | goal |")
	fmt.Fprintln(b, "| --- | --- | --- | --- | ---: | ---: | ---: | --- |")
	for _, line := range r.grouped() {
		s := line.spread()
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s – %s | %s | %s |\n", line.Scenario, line.Case, line.Metric, line.Subject,
			line.in(s.median), Number(s.min), Number(s.max), r.ratioText(line), r.goalText(line))
	}
	return b.Flush()
}

// grouped has the subjects of one metric beside each other. Runs report them in
// the order in which they were measured.
func (r *Results) grouped() []*row {
	type group struct{ scenario, name, metric string }
	first := make(map[group]int)
	of := func(w *row) group { return group{w.Scenario, w.Case, w.Metric} }
	for i, w := range r.rows {
		if _, seen := first[of(w)]; !seen {
			first[of(w)] = i
		}
	}
	rows := slices.Clone(r.rows)
	slices.SortStableFunc(rows, func(a, b *row) int { return cmp.Compare(first[of(a)], first[of(b)]) })
	return rows
}

func (r *Results) ratioText(w *row) string {
	ref := r.reference(w.Figure)
	if ref == nil {
		return ""
	}
	s, ok := w.ratios(ref)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s (%s – %s)", Number(s.median), Number(s.min), Number(s.max))
}

func (r *Results) goalText(w *row) string {
	g, ok := r.goal(w.Figure)
	if !ok {
		return ""
	}
	sign, number := g.bound()
	text, value := sign+" "+w.in(number), w.spread().median
	if g.Ratio {
		ref := r.reference(w.Figure)
		if ref == nil {
			return ""
		}
		s, ok := w.ratios(ref)
		if !ok {
			return ""
		}
		text, value = fmt.Sprintf("%s %.2f ×", sign, number), s.median
	}
	if !g.met(value) {
		return text + ": **not met**"
	}
	return text + ": met"
}

// in writes a number with the unit, if there is one.
func (f Figure) in(v float64) string { return strings.TrimSpace(Number(v) + " " + f.Unit) }

// Number writes three digits that matter, or all there are before the point, with
// a comma for each thousand.
func Number(v float64) string {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	return withCommas(strconv.FormatFloat(v, 'f', min(decimals, 4), 64))
}

// Count writes how many there are of something.
func Count(n int, of string) string { return withCommas(strconv.Itoa(n)) + " " + of }

// withCommas puts a comma before each three digits that others precede.
func withCommas(text string) string {
	whole, _, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
