package notify

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bench/measure"
)

// stream is what arrives at a subject: messages as nodes publish them.
type stream struct {
	rate     int // keys a second, at most
	each     int // keys a message
	duration time.Duration
}

func (s stream) String() string {
	return fmt.Sprintf("%s, %d a message", measure.Count(s.rate, "a second"), s.each)
}

// runUnwatched sends the same messages to each subject, and compares what they
// cost its process. The reference is what the bus client costs; what a node does
// about the keys is the rest.
func runUnwatched(ctx context.Context, o measure.Options, report func(measure.Figure)) error {
	duration := 5 * time.Second
	if o.Quick {
		duration = time.Second
	}
	for _, s := range []stream{{100_000, 50, duration}, {100_000, 1, duration}} {
		costs := make(map[string]float64)
		for _, subject := range []string{goNSQ, busAlone, node} {
			cost, err := s.measure(ctx, subject)
			if err != nil {
				return fmt.Errorf("%v, %s: %w", s, subject, err)
			}
			costs[subject] = cost
			report(measure.Figure{Scenario: "S6", Case: s.String(), Subject: subject, Metric: cpuPerKey, Unit: "µs", Value: cost})
		}
		report(measure.Figure{Scenario: "S6", Case: s.String(), Subject: node, Metric: cpuBeyond, Unit: "µs", Value: costs[node] - costs[busAlone]})
	}
	return nil
}

// cpuBeyond is what a node costs more than its bus alone.
const cpuBeyond = "CPU per key beyond the bus"

// measure returns the subject's processor time for each key of the stream, in
// microseconds.
func (s stream) measure(ctx context.Context, subject string) (cost float64, err error) {
	err = onStage(ctx, config{Subject: subject, Watched: 10_000}, func(g *stage) error {
		before, err := g.usage()
		if err != nil {
			return err
		}
		sent, err := s.send(ctx, g.nsqd.Addr)
		if err != nil {
			return err
		}
		heard := sent / s.each
		if subject == node { // which counts keys
			heard = sent
		}
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			after, err := g.usage()
			if err != nil {
				return err
			}
			if after.Heard-before.Heard >= heard {
				cost = (after.CPU - before.CPU).Seconds() * 1e6 / float64(sent)
				return nil
			}
		}
		return fmt.Errorf("%d were not all heard within %v", heard, patience)
	})
	return cost, err
}

// send publishes the stream, and returns how many keys that were.
func (s stream) send(ctx context.Context, addr string) (sent int, err error) {
	producer, err := nsq.NewProducer(addr, nsq.NewConfig())
	if err != nil {
		return 0, err
	}
	defer producer.Stop()
	producer.SetLogger(log.New(io.Discard, "", 0), nsq.LogLevelError)
	const tick = 20 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	total := int(float64(s.rate) * s.duration.Seconds())
	for number := 0; sent < total; {
		batch := make([][]byte, 0, int(float64(s.rate)*tick.Seconds())/s.each)
		for range cap(batch) {
			number++
			batch = append(batch, s.message(number))
			sent += s.each
		}
		if err := producer.MultiPublish(topic, batch); err != nil {
			return sent, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return sent, ctx.Err()
		}
	}
	return sent, nil
}

// message is one of a node's, with its number, of keys that nobody watches.
func (s stream) message(number int) []byte {
	ids := make([]string, s.each)
	for i := range ids {
		ids[i] = fmt.Sprintf("%q", fmt.Sprint("unwatched ", number*s.each+i))
	}
	what := `"ids":[` + strings.Join(ids, ",") + `]`
	if s.each == 1 {
		what = `"id":` + ids[0]
	}
	return fmt.Appendf(nil, `{"entity":%q,%s,"from":"7QWXW5XGBQYOYC7RKN7SRIYJNA","seq":%d}`, topic, what, number)
}
