package canary

import (
	"context"
	"fmt"
	"io"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/shared"
)

// Tap returns a bus that writes what is published on it to w as well.
func Tap(w io.Writer, b bus.Bus) bus.Bus {
	if w == io.Discard { // a benchmark is not to measure this
		return b
	}
	t := tapped{b, w}
	if spreader, ok := b.(bus.Spreader); ok {
		return tappedSpreader{t, spreader}
	}
	return t
}

type tapped struct {
	bus.Bus
	w io.Writer
}

// Publish implements bus.Bus.
func (b tapped) Publish(ctx context.Context, entity shared.EntityType, body []byte) error {
	_, _ = fmt.Fprintf(b.w, "published on %s: %s\n", entity, body)
	return b.Bus.Publish(ctx, entity, body)
}

// tappedSpreader is tapped for a bus of several brokers.
type tappedSpreader struct {
	tapped
	spreader bus.Spreader
}

// Spread implements bus.Spreader.
func (b tappedSpreader) Spread(ctx context.Context, entity shared.EntityType, body []byte) error {
	_, _ = fmt.Fprintf(b.w, "published on %s, by every broker: %s\n", entity, body)
	return b.spreader.Spread(ctx, entity, body)
}
