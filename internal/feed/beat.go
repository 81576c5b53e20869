package feed

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// startBeating starts the node's beats with its first message.
func (n *Node) startBeating() {
	n.beating.Do(func() { n.start(n.beat) })
}

// beat publishes at intervals the last number of each topic, so that other nodes notice
// when the last message was lost.
func (n *Node) beat() {
	ticker := time.NewTicker(n.config.BeatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			n.beatOnce(n.ctx, n.all())
		case <-n.ctx.Done():
			return
		}
	}
}

// lastBeat publishes the last numbers before the node leaves, on each topic that is not cut
// off from the bus.
func (n *Node) lastBeat(ctx context.Context) {
	feeds := slices.DeleteFunc(n.all(), func(f *Feed) bool { return f.listens() && !f.Live() })
	ctx, cancel := context.WithTimeout(ctx, n.config.PublishTimeout)
	defer cancel()
	n.beatOnce(ctx, feeds)
}

func (n *Node) beatOnce(ctx context.Context, feeds []*Feed) {
	ctx, cancel := context.WithTimeout(ctx, n.config.BeatInterval)
	defer cancel()
	for _, f := range feeds {
		if err := f.publish.beat(ctx); err != nil {
			n.config.Logger.Debug("a beat was not published", slog.String("entity", string(f.topic)), slog.Any("error", err))
		}
	}
}

// beat publishes the number of the last message, if there was one.
func (p *publisher) beat(ctx context.Context) error {
	n := p.feed.node
	p.mu.Lock()
	m := message{Entity: p.feed.topic, From: n.name, Seq: p.seq}
	p.mu.Unlock()
	if p.feed.stream != nil {
		m.Seq = p.feed.stream.publish.reached()
	}
	if m.Seq == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.config.PublishTimeout)
	defer cancel()
	return p.transmit(ctx, m)
}
