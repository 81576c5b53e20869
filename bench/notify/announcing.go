package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entity-sync/entity-sync/bench/measure"
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
		distinct = "distinct keys"
		hot      = "one hot key"
		bulk     = "10,000 keys a call"
		mpub     = goNSQ + ", MPUB of 100"
		pub      = goNSQ + ", PUB"
	)
	for _, a := range []announcing{
		{distinct, goNSQ, mpub, load{Goroutines: 64, Each: 100}},
		{distinct, goNSQ, pub, load{Goroutines: 64, Each: 1}},
		{distinct, node, node, load{Goroutines: 64, Each: 1}},
		{hot, goNSQ, pub, load{Goroutines: 64, Each: 1, Hot: true}},
		{hot, node, node, load{Goroutines: 64, Each: 1, Hot: true}},
		{hot + ", 1,024 at once", node, node, load{Goroutines: 1024, Each: 1, Hot: true}},
		{bulk, goNSQ, mpub, load{Goroutines: 1, Each: 100}},
		{bulk, node, node, load{Goroutines: 1, Each: 10_000}},
	} {
		a.load.Duration = duration
		if err := a.measure(ctx, report); err != nil {
			return fmt.Errorf("S7, %s, %s: %w", a.name, a.label, err)
		}
	}
	for _, subject := range []string{goNSQ, node} {
		if err := measureLone(subject, samples, report); err != nil {
			return fmt.Errorf("S7, a lone change, %s: %w", subject, err)
		}
	}
	return nil
}

func (a announcing) measure(ctx context.Context, report func(measure.Figure)) error {
	return with(role{Subject: a.subject}, func(b *broker, c *child) error {
		before, err := b.messages(ctx)
		if err != nil {
			return err
		}
		idle, err := c.ask(order{Usage: &struct{}{}})
		if err != nil {
			return err
		}
		got, err := c.ask(order{Load: &a.load})
		if err != nil {
			return err
		}
		after, err := b.messages(ctx)
		if err != nil {
			return err
		}
		keys := float64(got.Announced)
		figure := measure.Figure{Scenario: "S7", Case: a.name, Subject: a.label}
		for _, m := range []measure.Figure{
			{Metric: "keys a second", Unit: "1/s", Value: keys / got.Elapsed.Seconds()},
			{Metric: "processor time for each key", Unit: "µs", Value: (got.CPU - idle.CPU).Seconds() * 1e6 / keys},
			{Metric: "messages for each key", Value: float64(after-before) / keys},
			{Metric: "messages a second", Unit: "1/s", Value: float64(after-before) / got.Elapsed.Seconds()},
		} {
			figure.Metric, figure.Unit, figure.Value = m.Metric, m.Unit, m.Value
			report(figure)
		}
		return nil
	})
}

func measureLone(subject string, samples int, report func(measure.Figure)) error {
	return with(role{Subject: subject}, func(_ *broker, c *child) error {
		got, err := c.ask(order{Lone: &lone{Samples: samples, Pause: 5 * time.Millisecond}})
		if err != nil {
			return err
		}
		for metric, delay := range map[string]time.Duration{
			"acknowledged, median": got.Delays.Acknowledged.Median,
			"acknowledged, p99":    got.Delays.Acknowledged.P99,
			"heard, median":        got.Delays.Heard.Median,
			"heard, p99":           got.Delays.Heard.P99,
		} {
			report(measure.Figure{
				Scenario: "S7", Case: "a lone change", Subject: subject,
				Metric: metric, Unit: "µs", Value: delay.Seconds() * 1e6,
			})
		}
		return nil
	})
}

// with runs an nsqd and a subject of it for as long as f takes.
func with(r role, f func(*broker, *child) error) (err error) {
	b, err := startBroker()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.end()) }()
	r.NSQD = b.addr
	c, err := start(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	return f(b, c)
}
