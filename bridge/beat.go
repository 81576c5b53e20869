package bridge

import (
	"context"
	"log/slog"
	"time"
)

// startBeating starts the node's beats with its first notification.
func (b *Bridge) startBeating() {
	b.beating.Do(func() { b.startWorker(b.beat) })
}

// beat says at intervals what number each entity type's notifications have come
// to, so that others notice when the last one was lost.
func (b *Bridge) beat() {
	ticker := time.NewTicker(b.config.BeatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.beatOnce(b.ctx)
		case <-b.ctx.Done():
			return
		}
	}
}

// lastBeat says the last numbers before the node leaves, to a bus that is there.
func (b *Bridge) lastBeat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, b.config.PublishTimeout)
	defer cancel()
	if b.Ready() {
		b.beatOnce(ctx)
	}
}

func (b *Bridge) beatOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, b.config.BeatInterval)
	defer cancel()
	for _, ent := range b.registered() {
		if err := ent.publish.beat(ctx); err != nil {
			b.log.Debug("a beat was not published", slog.String("entity", string(ent.name)), slog.Any("error", err))
		}
	}
}

// beat publishes the number of the last message, if there was one.
func (p *publisher) beat(ctx context.Context) error {
	p.mu.Lock()
	note := notification{Entity: p.name, From: p.bridge.name, Seq: p.seq}
	p.mu.Unlock()
	if note.Seq == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.bridge.config.PublishTimeout)
	defer cancel()
	return p.transmit(ctx, note)
}
