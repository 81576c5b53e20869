package sendqueue

import (
	"net"
	"time"

	"github.com/entity-sync/entity-sync/web/internal/socket"
)

// Update is what waits in the lane of the newest.
type Update interface {
	// Bytes is how much of it waits while it does.
	Bytes() int
}

// Transport carries frames to one client.
type Transport interface {
	// TryWrite writes what the client's connection takes at once, and returns the
	// rest. It is called where Options.Immediate is set.
	TryWrite(room *socket.Scratch, frames net.Buffers) (rest net.Buffers, err error)

	// Write writes everything. It gives up where the client reads nothing for too
	// long, and at the time that endBy returns, unless that is zero; endBy may return
	// another time while Write goes on.
	Write(frames net.Buffers, endBy func() time.Time) error

	// Ping returns the frame that asks the client whether it is there.
	Ping() []byte

	// Close returns the frame that says, as the last one, why the connection ends.
	Close(code int, reason string) []byte
}

// Encoder makes frames of what waits.
type Encoder[U Update] interface {
	// Update returns the frames of an update, nil where there is nothing to say.
	Update(u U) []byte

	// Freshness returns the frame that says whether what was sent is up to date, nil
	// where there are no words for it.
	Freshness(fresh bool) []byte

	// Gap returns the frame that says that events of a topic were missed: how many, or
	// zero where that is not known. It is nil where there are no words for it.
	Gap(topic string, missed uint64) []byte
}

// Owner is told what a Queue finds while it writes. It is called without a lock.
type Owner interface {
	// Overflowed says that too much has come together, and that the client is being
	// told to go.
	Overflowed()

	// Expired says that the time of ExpireAt is over while an update waits.
	Expired()

	// Failed says that the client cannot be written to any more.
	Failed()
}

// Config is what all queues of a Group have in common. All of it is required.
type Config struct {
	// MaxBytes bounds the updates that wait for one client. One that lets more come
	// together is told to go with the OverflowCode and OverflowReason.
	MaxBytes       int
	OverflowCode   int
	OverflowReason string

	// MaxEvents and MaxEventBytes bound the events that wait for one client. Beyond them
	// the oldest goes, and is a gap.
	MaxEvents, MaxEventBytes int

	// EndTimeout is how long what waits may take to be written, from End on.
	EndTimeout time.Duration

	// Clock is the wall clock by which ExpireAt goes.
	Clock func() time.Time

	// Go runs a writer in a goroutine that its caller waits for.
	Go func(write func())
}

// Group is the queues of one node, for which a few goroutines write together.
type Group[U Update] struct {
	config  Config
	flusher *flusher[U]
}

// NewGroup returns a Group without queues.
func NewGroup[U Update](c Config) *Group[U] {
	return &Group[U]{config: c, flusher: newFlusher[U]()}
}

// Close lets the goroutines end when nothing is left to write. What is sent later is
// written all the same.
func (g *Group[U]) Close() { g.flusher.close() }
