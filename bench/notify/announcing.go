package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/entity-sync/entity-sync/bench/measure"
)

const (
	distinct       = "distinct keys"
	hot            = "one hot key"
	hotter         = "one hot key, 1,024 at once"
	loneChange     = "a lone change"
	mpub           = goNSQ + ", MPUB of 100"
	keysASecond    = "keys a second"
	cpuPerKey      = "CPU per key"
	messagesPerKey = "messages for each key"
	heardLater     = "heard later than by go-nsq"
)

// announcing is one way to announce changes, in the words of each subject.
type announcing struct {
	name    string
	subject string
	label   string // of the subject
	load    load
}

// runAnnouncing measures throughput, what a hot key costs nsqd, and the delay of a
// lone change.
func runAnnouncing(ctx context.Context, o measure.Options, report func(measure.Figure)) error {
	duration, samples := 3*time.Second, 1000
	if o.Quick {
		duration, samples = 500*time.Millisecond, 100
	}
	const (
		bulk = "10,000 keys a call"
		pub  = goNSQ + ", PUB"
	)
	for _, a := range []announcing{
		{distinct, goNSQ, mpub, load{Goroutines: 64, Each: 100}},
		{distinct, goNSQ, pub, load{Goroutines: 64, Each: 1}},
		{distinct, node, node, load{Goroutines: 64, Each: 1}},
		{hot, goNSQ, pub, load{Goroutines: 64, Each: 1, Hot: true}},
		{hot, node, node, load{Goroutines: 64, Each: 1, Hot: true}},
		{hotter, node, node, load{Goroutines: 1024, Each: 1, Hot: true}},
		{bulk, goNSQ, mpub, load{Goroutines: 1, Each: 100}},
		{bulk, node, node, load{Goroutines: 1, Each: 10_000}},
	} {
		a.load.Duration = duration
		if err := a.measure(ctx, report); err != nil {
			return fmt.Errorf("%s, %s: %w", a.name, a.label, err)
		}
	}
	var heard [2]time.Duration
	for i, subject := range []string{goNSQ, node} {
		var err error
		if heard[i], err = measureLone(ctx, subject, samples, report); err != nil {
			return fmt.Errorf("%s, %s: %w", loneChange, subject, err)
		}
	}
	report(measure.Figure{
		Scenario: "S7", Case: loneChange, Subject: node,
		Metric: heardLater, Unit: "µs", Value: (heard[1] - heard[0]).Seconds() * 1e6,
	})
	return nil
}

func (a announcing) measure(ctx context.Context, report func(measure.Figure)) error {
	return onStage(ctx, config{Subject: a.subject}, func(g *stage) error {
		messages, err := g.nsqd.Messages(ctx, topic)
		if err != nil {
			return err
		}
		idle, err := g.usage()
		if err != nil {
			return err
		}
		var got announced
		if err := g.subject.Ask(ctx, "load", a.load, &got); err != nil {
			return err
		}
		busy, err := g.usage()
		if err != nil {
			return err
		}
		after, err := g.nsqd.Messages(ctx, topic)
		if err != nil {
			return err
		}
		keys := float64(got.Keys)
		for _, m := range []measure.Figure{
			{Metric: keysASecond, Unit: "1/s", Value: keys / got.Elapsed.Seconds()},
			{Metric: cpuPerKey, Unit: "µs", Value: (busy.CPU - idle.CPU).Seconds() * 1e6 / keys},
			{Metric: messagesPerKey, Value: float64(after-messages) / keys},
			{Metric: "messages a second", Unit: "1/s", Value: float64(after-messages) / got.Elapsed.Seconds()},
		} {
			m.Scenario, m.Case, m.Subject = "S7", a.name, a.label
			report(m)
		}
		return nil
	})
}

// measureLone returns how long it takes, at the median, until a lone change is heard.
func measureLone(ctx context.Context, subject string, samples int, report func(measure.Figure)) (heard time.Duration, err error) {
	err = onStage(ctx, config{Subject: subject}, func(g *stage) error {
		var got delays
		if err := g.subject.Ask(ctx, "lone", lone{Samples: samples, Pause: 5 * time.Millisecond}, &got); err != nil {
			return err
		}
		for _, m := range []struct {
			name  string
			delay time.Duration
		}{
			{"acknowledged, median", got.Acknowledged.Median},
			{"acknowledged, p99", got.Acknowledged.P99},
			{"heard, median", got.Heard.Median},
			{"heard, p99", got.Heard.P99},
		} {
			report(measure.Figure{Scenario: "S7", Case: loneChange, Subject: subject, Metric: m.name, Unit: "µs", Value: m.delay.Seconds() * 1e6})
		}
		heard = got.Heard.Median
		return nil
	})
	return heard, err
}
