package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/deadline"
	"github.com/entity-sync/entity-sync/shared"
)

// send publishes the ids in as few messages as their size allows, and counts in went the ids
// that were acknowledged. If a message fails, it returns the message and how many ids that had.
func (p *publisher) send(ctx context.Context, ids []string, went *int) (inFlight message, n int, err error) {
	for rest := ids; len(rest) > 0; rest = rest[n:] {
		if inFlight, n, err = p.sendFirst(ctx, rest); err != nil {
			return inFlight, n, err
		}
		p.mu.Lock()
		*went += n
		p.mu.Unlock()
	}
	return message{}, 0, nil
}

// sendFirst publishes as many of the ids as go into one message.
func (p *publisher) sendFirst(ctx context.Context, ids []string) (m message, n int, err error) {
	ids = ids[:p.fit(ids)]
	return p.sendHalved(ctx, p.number(messageOf(p.feed.topic, ids)), ids)
}

// sendHalved publishes m, which has these ids. A message that is too large for the broker is
// halved. It keeps its number, because no node has heard the larger message.
func (p *publisher) sendHalved(ctx context.Context, m message, ids []string) (message, int, error) {
	n := len(ids)
	err := p.inTime(ctx, m)
	for ; n > 1 && errors.Is(err, bus.ErrTooLarge); err = p.inTime(ctx, m) {
		p.narrow(sizeOf(ids[:n]))
		n /= 2
		smaller := messageOf(p.feed.topic, ids[:n])
		smaller.Seq, smaller.From, smaller.At = m.Seq, m.From, m.At
		m = smaller
	}
	return m, n, err
}

// inTime publishes one message, within Config.PublishTimeout.
func (p *publisher) inTime(ctx context.Context, m message) error {
	bounded := deadline.After(ctx, p.feed.node.config.PublishTimeout)
	defer bounded.Cancel()
	err := p.transmit(bounded, m)
	switch {
	case err == nil || errors.Is(err, bus.ErrTooLarge): // the bus works: calls go on waiting for it
		p.mu.Lock()
		p.took = time.Now()
		p.mu.Unlock()
	case bounded.Err() != nil:
		err = fmt.Errorf("%w: %w", shared.ErrUnavailable, err)
	}
	return err
}

// fit returns how many of the ids go into one message: one at least.
func (p *publisher) fit(ids []string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.room.fit(ids)
}

// narrow makes further messages smaller than the given size, which the broker refused.
func (p *publisher) narrow(refused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room.narrow(refused)
}

// number numbers a message. The number is used up even if the message fails: a node that
// misses the number fetches again, as the message would have had it do.
func (p *publisher) number(m message) message {
	p.mu.Lock()
	p.seq++
	m.Seq, m.From, m.At = p.seq, p.feed.node.name, time.Now().UnixMilli()
	p.mu.Unlock()
	p.feed.node.startBeating()
	return m
}

func (p *publisher) transmit(ctx context.Context, m message) error {
	body, err := m.encode()
	if err != nil {
		return fmt.Errorf("encoding a notification: %w", err)
	}
	carrier := p.feed.node.config.Bus
	if spreader, ok := carrier.(bus.Spreader); ok && (p.feed.spread.Load() || m.isBeat()) {
		return spreader.Spread(ctx, p.feed.topic, body)
	}
	return carrier.Publish(ctx, p.feed.topic, body)
}
