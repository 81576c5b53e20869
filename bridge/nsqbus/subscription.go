package nsqbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// maxReady is how many messages nsqd may have under way to one connection, if
// it allows so many. They are only noted and acknowledged, so many never hurt.
const maxReady = 2500

// subscription listens to one topic on every nsqd, one connection each.
type subscription struct {
	bus   *Bus
	topic string

	// listeners is replaced, never changed, so that a message takes no lock.
	listeners atomic.Pointer[listeners]

	// mu keeps Live and Lost in the order in which the connections came and
	// went. It is held across those calls, which return at once.
	mu   sync.Mutex
	live int // connections subscribed

	errors  sparing.Counter // error frames
	rubbish sparing.Counter // messages for nobody
}

// listeners are those of one topic: of one entity type, or of all.
type listeners map[shared.EntityType][]bridge.Listener

func newSubscription(b *Bus, topic string) *subscription {
	s := &subscription{bus: b, topic: topic}
	s.listeners.Store(&listeners{})
	return s
}

// add makes l hear entity too. Where the topic is subscribed already, this is
// the moment from which on l hears everything.
func (s *subscription) add(entity shared.EntityType, l bridge.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	more := maps.Clone(*s.listeners.Load())
	more[entity] = append(slices.Clip(more[entity]), l)
	s.listeners.Store(&more)
	if s.live > 0 {
		l.Live()
	}
}

func (s *subscription) each(tell func(bridge.Listener)) {
	for _, ls := range *s.listeners.Load() {
		for _, l := range ls {
			tell(l)
		}
	}
}

// run keeps the topic subscribed on one nsqd until that is let go.
func (s *subscription) run(br *broker) {
	c := s.bus.config
	wait := backoff.Policy{Min: c.Reconnect / 10, Max: c.Reconnect}
	for failures := 1; ; failures++ {
		since, err := s.listen(br)
		if br.ctx.Err() != nil {
			return
		}
		// A peer that takes the subscription and drops it again is no better
		// than one that refuses: each time, everything watched is looked at.
		if !since.IsZero() && time.Since(since) > c.Reconnect {
			failures = 1
		}
		if s.bus.says(br, failures) {
			c.Logger.Warn("not subscribed on this nsqd; trying again", slog.String("addr", br.addr),
				slog.String("topic", s.topic), slog.Int("failures", failures), slog.Any("error", err))
		}
		select {
		case <-time.After(wait.Delay(failures)):
		case <-br.ctx.Done():
			return
		}
	}
}

// listen subscribes on one nsqd and hears it until the connection ends. It
// returns when it was subscribed, zero for never.
func (s *subscription) listen(br *broker) (since time.Time, err error) {
	cn, err := dial(br.ctx, br.addr, s.bus.config)
	if err != nil {
		return since, err
	}
	defer cn.Close()
	stop := context.AfterFunc(br.ctx, func() { cn.Close() })
	defer stop()

	if err := s.subscribe(cn); err != nil {
		return since, fmt.Errorf("subscribing: %w", err)
	}
	since = time.Now()
	s.up(br)
	err = s.hear(cn)
	s.down(br, err)
	return since, err
}

func (s *subscription) subscribe(cn *conn) error {
	if _, err := cn.ask(nsq.Subscribe(s.topic, s.bus.channel), s.bus.config); err != nil {
		return err
	}
	ready := maxReady
	if cn.ready > 0 {
		ready = min(ready, cn.ready)
	}
	return cn.send(nsq.Ready(ready))
}

func (s *subscription) up(br *broker) {
	s.bus.subscribed(br, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live++
	// Not only the first: what another node published on this nsqd while this
	// connection was gone was not heard here.
	s.each(bridge.Listener.Live)
}

func (s *subscription) down(br *broker, err error) {
	s.bus.unsubscribed(br)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live--
	// An nsqd that is let go is a loss too, if it was the last; Close is not.
	if s.live == 0 && s.bus.ctx.Err() == nil {
		s.each(func(l bridge.Listener) { l.Lost(err) })
	}
}

// messageHead is what stands before a message's body: a time stamp, the number of
// attempts, and last its id.
const messageHead = 8 + 2 + nsq.MsgIDLength

var errShortMessage = errors.New("a message shorter than its head")

// hear passes messages on. One goroutine reads, acknowledges and answers
// heartbeats, because no listener keeps it waiting.
func (s *subscription) hear(cn *conn) error {
	for {
		kind, data, err := cn.frame()
		if err != nil {
			return err
		}
		switch {
		case kind == nsq.FrameTypeMessage:
			if len(data) < messageHead {
				return errShortMessage
			}
			id, body := data[messageHead-nsq.MsgIDLength:messageHead], data[messageHead:]
			s.message(body)
			if err := s.finish(cn, id); err != nil {
				return err
			}
		case kind == nsq.FrameTypeResponse && string(data) == heartbeat:
			if err := cn.send(nsq.Nop()); err != nil {
				return err
			}
		case kind == nsq.FrameTypeError:
			// Such as E_FIN_FAILED, where a message had timed out. What is fatal
			// ends the connection, and that is seen by the next read.
			if n, say := s.errors.Again(); say {
				s.bus.config.Logger.Warn("nsqd reports an error", slog.String("topic", s.topic),
					slog.Uint64("so_far", n), slog.Any("error", nsqError(data)))
			}
		default:
			return errors.New("an unexpected frame")
		}
	}
}

// message gives a body to those it is for.
func (s *subscription) message(body []byte) {
	if s.bus.config.SharedTopic == "" { // the topic says what it is for
		s.each(func(l bridge.Listener) { l.Message(body) })
		return
	}
	entity, err := entityOf(body)
	if err != nil {
		if n, say := s.rubbish.Again(); say {
			s.bus.config.Logger.Warn("ignoring a message on the shared topic", slog.String("topic", s.topic),
				slog.Int("bytes", len(body)), slog.Uint64("so_far", n), slog.Any("error", err))
		}
		return
	}
	for _, l := range (*s.listeners.Load())[entity] {
		l.Message(body)
	}
}

var fin, newline = []byte("FIN "), []byte("\n")

// finish acknowledges a message. It writes to the network only when no further
// message has been read already, so that a burst is acknowledged in few writes.
func (s *subscription) finish(cn *conn, id []byte) error {
	for _, part := range [...][]byte{fin, id, newline} {
		if _, err := cn.w.Write(part); err != nil {
			return err
		}
	}
	if cn.r.Buffered() > 0 {
		return nil
	}
	return cn.w.Flush()
}
