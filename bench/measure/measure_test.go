package measure

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// Three runs, in which everything takes longer from one to the next: the ratios
// are those within each, and not of the medians.
func TestTable(t *testing.T) {
	run := 0
	failing := false
	s := Scenario{
		Name: "S1", Reference: "bare loop",
		Goals: []Goal{
			{Subject: "library", Metric: "CPU", Ratio: true, Max: 1.5},
			{Subject: "library", Metric: "memory", Max: 1000},
			{Subject: "library", Metric: "throughput", Ratio: true, Min: 3},
		},
		Run: func(_ context.Context, _ Options, report func(Figure)) error {
			run++
			reference := []float64{1, 10, 100}[run-1]
			report(Figure{"S1", "small", "bare loop", "CPU", "µs", reference})
			report(Figure{"S1", "small", "library", "memory", "KiB", 1234.5 * float64(run)})
			report(Figure{"S1", "small", "library", "CPU", "µs", reference * []float64{1.2, 1.4, 1.7}[run-1]})
			report(Figure{"S1", "small", "bare loop", "throughput", "", 1000})
			report(Figure{"S1", "small", "library", "throughput", "", 2500 * float64(run)})
			if failing && run == 3 {
				return errors.New("broken")
			}
			return nil
		},
	}
	for _, test := range []struct {
		name    string
		failing bool
		want    string
	}{
		{"all runs", false, `
| S1 | small | CPU | bare loop | 10.0 µs | 1.00 – 100 |  |  |
| S1 | small | CPU | library | 14.0 µs | 1.20 – 170 | 1.40 (1.20 – 1.70) | ≤ 1.50 ×: met |
| S1 | small | memory | library | 2,469 KiB | 1,234 – 3,704 |  | ≤ 1,000 KiB: **not met** |
| S1 | small | throughput | bare loop | 1,000 | 1,000 – 1,000 |  |  |
| S1 | small | throughput | library | 5,000 | 2,500 – 7,500 | 5.00 (2.50 – 7.50) | ≥ 3.00 ×: met |
`},
		{"one fails", true, `
| S1 | small | CPU | bare loop | 5.50 µs | 1.00 – 10.0 |  |  |
| S1 | small | CPU | library | 7.60 µs | 1.20 – 14.0 | 1.30 (1.20 – 1.40) | ≤ 1.50 ×: met |
| S1 | small | memory | library | 1,852 KiB | 1,234 – 2,469 |  | ≤ 1,000 KiB: **not met** |
| S1 | small | throughput | bare loop | 1,000 | 1,000 – 1,000 |  |  |
| S1 | small | throughput | library | 3,750 | 2,500 – 5,000 | 3.75 (2.50 – 5.00) | ≥ 3.00 ×: met |
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			run, failing = 0, test.failing
			r, err := Run(t.Context(), []Scenario{s}, 3, Options{Log: slog.New(slog.DiscardHandler)})
			if failed := err != nil; failed != test.failing {
				t.Errorf("the error is %v", err)
			}
			var b strings.Builder
			if err := r.WriteTable(&b); err != nil {
				t.Fatal(err)
			}
			if _, lines, _ := strings.Cut(b.String(), "--- |\n"); lines != strings.TrimPrefix(test.want, "\n") {
				t.Errorf("the table has\n%s\nwant\n%s", lines, test.want)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.01234: "0.0123", 1.005: "1.00", 12.34: "12.3", 999: "999", 1000: "1,000", 1234567.8: "1,234,568", -1234.5: "-1,234", 0.00001: "0.0000",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 keys", 50: "50 keys", 1000: "1,000 keys", 1234567: "1,234,567 keys"} {
		if got := Count(n, "keys"); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}
