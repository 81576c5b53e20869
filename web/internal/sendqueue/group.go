package sendqueue

import (
	"net"
	"time"

	"github.com/entity-sync/entity-sync/web/internal/socket"
)

// Update is an element of the lane of the newest.
type Update interface {
	// Bytes is how many bytes the update takes while it waits.
	Bytes() int
}

// Transport carries frames to one client.
type Transport interface {
	// TryWrite writes as much as the client's connection takes at once, and returns the rest.
	// It is called if Options.Immediate is set.
	TryWrite(room *socket.Scratch, frames net.Buffers) (rest net.Buffers, err error)

	// Write writes everything. It gives up if the client reads nothing for too long, and at
	// the time that endBy returns, unless that is zero. endBy may return another time while
	// Write goes on.
	Write(frames net.Buffers, endBy func() time.Time) error

	// Ping returns the frame that asks the client whether it is there.
	Ping() []byte

	// Close returns the last frame, which says why the connection ends.
	Close(code int, reason string) []byte
}

// Encoder makes frames of the updates in the lane of the newest, and of gaps among the events.
type Encoder[U Update] interface {
	// Update returns the frames of an update, nil if there is nothing to send.
	Update(u U) []byte

	// Freshness returns the frame that says whether the client's rows are up to date, nil if
	// the wire has none.
	Freshness(fresh bool) []byte

	// Gap returns the frame that says that events of a topic were missed, nil if the wire has
	// none. missed is how many, or zero if that is not known.
	Gap(topic string, missed uint64) []byte
}

// Owner is told of what happens while a Queue is written. It is called without a lock.
type Owner interface {
	// Overflowed says that too much is waiting for the client, and that the client is being
	// told to go.
	Overflowed()

	// Expired says that the time of ExpireAt has passed while an update waits.
	Expired()

	// Failed says that the client cannot be written to any more.
	Failed()
}

// Config is shared by all queues of a Group. All fields are required.
type Config struct {
	// MaxBytes bounds the updates that wait for one client. A client for which more are
	// waiting is told to go, with the OverflowCode and OverflowReason.
	MaxBytes       int
	OverflowCode   int
	OverflowReason string

	// MaxEvents and MaxEventBytes bound the events that wait for one client. If there are
	// more, the oldest are dropped, and a gap takes their place.
	MaxEvents, MaxEventBytes int

	// EndTimeout is how long after End the waiting frames may take to be written.
	EndTimeout time.Duration

	// Clock is the wall clock by which ExpireAt goes.
	Clock func() time.Time

	// Go runs a writer in a goroutine that its caller waits for.
	Go func(write func())
}

// Group is the queues of one node, which a few goroutines write together.
type Group[U Update] struct {
	config  Config
	flusher *flusher[U]
}

// NewGroup returns a Group without queues.
func NewGroup[U Update](c Config) *Group[U] {
	return &Group[U]{config: c, flusher: newFlusher[U]()}
}

// Close lets the goroutines end when nothing is left to write. Frames that are sent later are
// written all the same.
func (g *Group[U]) Close() { g.flusher.close() }
