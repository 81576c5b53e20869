package nsqbus

import (
	"context"
	"fmt"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/echo"
	"github.com/entity-sync/entity-sync/shared"
)

// spreadTimeout bounds publishing on each of the other nsqd: it is long enough to connect.
const spreadTimeout = time.Second

// Spread implements bus.Spreader. Nothing is published on an nsqd that Publish
// would not try.
func (b *Bus) Spread(ctx context.Context, entity shared.EntityType, body []byte) error {
	topic, err := b.config.topicFor(entity, body)
	if err != nil {
		return fmt.Errorf("nsqbus: %w", err)
	}
	acknowledged, err := b.publish(ctx, topic, body)
	if err != nil {
		return err
	}
	brokers, err := b.publishOrder(topic)
	if err != nil {
		return nil //nolint:nilerr // one nsqd has acknowledged; the bus closes, or has removed the nsqd
	}
	for _, br := range brokers {
		if br != acknowledged {
			b.copyTo(br, topic, body)
		}
	}
	return nil
}

// copyTo publishes on an nsqd without waiting for it. An error is ignored: only a node
// that hears no other nsqd needs the copy.
func (b *Bus) copyTo(br *broker, topic string, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.spreading.Add(1)
	b.work.Go(func() {
		defer b.spreading.Done()
		ctx, cancel := context.WithTimeout(br.ctx, spreadTimeout)
		defer cancel()
		_ = br.publisher.publish(ctx, topic, body)
	})
}

// Survey implements bus.Surveyor.
func (b *Bus) Survey() []bus.BrokerStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]bus.BrokerStats, 0, len(b.cluster.brokers))
	for _, br := range b.cluster.brokers {
		s := bus.BrokerStats{Addr: br.addr}
		for _, sub := range b.subscriptions {
			switch br.states[sub] {
			case echo.Live:
				s.Live++
			case echo.Silent:
				s.Silent++
			case echo.Gone:
				s.Gone++
			}
		}
		all = append(all, s)
	}
	return all
}
