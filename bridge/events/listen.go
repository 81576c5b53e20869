package events

import (
	"context"
	"sync"

	"github.com/entity-sync/entity-sync/shared"
)

// Received is what a listener is handed: an event, or word that events were missed.
type Received struct {
	Topic shared.Topic // what the event was published to; of a gap what is listened to
	Event shared.Event // the zero Event of a gap

	// Gap says that events were missed: Missed of them, or zero where that is not known.
	Gap    bool
	Missed uint64
}

// maxListened bounds the events that wait for a listener.
const maxListened = 1024

// Listen has the application itself hear a topic. f is called for one event after the other,
// from a goroutine of its own, until stop is called or the Hub is closed. stop waits for the
// call under way, so f must not call it. A listener that does not keep up with 1,024 events
// misses the oldest, and is told. The errors are those of Client.Subscribe.
func (h *Hub) Listen(topic shared.Topic, o Options, f func(Received)) (stop func(), err error) {
	ctx, cancel := context.WithCancel(h.ctx)
	l := &listener{wake: make(chan struct{}, 1), done: make(chan struct{})}
	client := h.NewClient(l)
	end := func() {
		client.Close()
		cancel()
	}
	if err := client.Subscribe(topic, o); err != nil {
		end()
		return nil, err
	}
	if !h.work.Go(func() { l.run(ctx, f) }) {
		end()
		return nil, shared.ErrClosed
	}
	return func() {
		end()
		<-l.done
	}, nil
}

// listener is the Sink of Listen.
type listener struct {
	wake chan struct{} // with room for one
	done chan struct{} // closed when f is called no more

	mu      sync.Mutex // guards what follows
	waiting []Received
	events  int // of waiting
}

// Event implements Sink.
func (l *listener) Event(d *Delivery) { l.add(Received{Topic: d.Topic, Event: d.Event}) }

// Gap implements Sink.
func (l *listener) Gap(topic shared.Topic, missed uint64) {
	l.add(Received{Topic: topic, Gap: true, Missed: missed})
}

// Retract implements Sink. It is called once the listener is to end.
func (l *listener) Retract(shared.Topic) {}

func (l *listener) add(r Received) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting = append(l.waiting, r); !r.Gap {
		l.events++
	}
	if l.events > maxListened {
		l.dropOldestLocked()
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// dropOldestLocked makes one gap of the oldest event and the gaps before it.
func (l *listener) dropOldestLocked() {
	gap := Received{Gap: true}
	known := true
	for i, r := range l.waiting {
		if r.Gap {
			known = known && r.Missed > 0
			gap.Missed += r.Missed
			continue
		}
		if gap.Topic, gap.Missed = r.Topic, gap.Missed+1; !known {
			gap.Missed = 0
		}
		l.waiting[i] = gap
		clear(l.waiting[:i])
		l.waiting = l.waiting[i:]
		l.events--
		return
	}
}

func (l *listener) run(ctx context.Context, f func(Received)) {
	defer close(l.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		for r, ok := l.next(); ok && ctx.Err() == nil; r, ok = l.next() {
			f(r)
		}
	}
}

func (l *listener) next() (r Received, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return r, false
	}
	r = l.waiting[0]
	l.waiting[0] = Received{}
	if l.waiting = l.waiting[1:]; !r.Gap {
		l.events--
	}
	return r, true
}
