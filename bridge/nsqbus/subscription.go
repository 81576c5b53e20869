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

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/internal/echo"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// maxReady is how many messages nsqd may have under way to one connection, if
// nsqd allows so many. A message is only noted and acknowledged, so many do no harm.
const maxReady = 2500

// subscription listens to one topic on every nsqd, one connection each.
type subscription struct {
	bus   *Bus
	topic string

	// listeners is replaced, never changed, so that a message takes no lock.
	listeners atomic.Pointer[listeners]

	// mu keeps the calls of Live and Lost in the order in which the connections came
	// and went. It is held across those calls, which return at once.
	mu    sync.Mutex
	reach echo.Reach[*broker]

	errors  sparing.Counter // error frames
	rubbish sparing.Counter // messages that name no entity type
}

// listeners are the listeners of one topic, which carries one entity type or all.
type listeners map[shared.EntityType][]bus.Listener

func newSubscription(b *Bus, topic string) *subscription {
	s := &subscription{bus: b, topic: topic}
	s.listeners.Store(&listeners{})
	return s
}

// add makes l hear entity too. If the topic is subscribed already, l hears every
// message from now on, and is told so.
func (s *subscription) add(entity shared.EntityType, l bus.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	more := maps.Clone(*s.listeners.Load())
	more[entity] = append(slices.Clip(more[entity]), l)
	s.listeners.Store(&more)
	if s.reach.Heard() {
		l.Live()
	}
}

func (s *subscription) each(tell func(bus.Listener)) {
	for _, ls := range *s.listeners.Load() {
		for _, l := range ls {
			tell(l)
		}
	}
}

// run keeps the topic subscribed on one nsqd until the nsqd is forgotten.
func (s *subscription) run(br *broker) {
	c := s.bus.config
	wait := backoff.Policy{Min: c.Reconnect / 10, Max: c.Reconnect}
	for failures := 1; ; failures++ {
		since, err := s.listen(br)
		if br.ctx.Err() != nil {
			return
		}
		// A subscription that nsqd drops again at once counts as a further failure:
		// each one makes this node fetch again all that it watches.
		if !since.IsZero() && time.Since(since) > c.Reconnect {
			failures = 1
		}
		if !errors.Is(err, echo.ErrSilent) && s.bus.shouldLog(br, failures) {
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

// listen subscribes on one nsqd and hears it until the connection ends. It returns the
// time at which it was subscribed, zero for never.
func (s *subscription) listen(br *broker) (since time.Time, err error) {
	cn, err := dial(br.ctx, br.addr, s.bus.config)
	if err != nil {
		s.become(br, echo.Gone, err)
		return since, err
	}
	defer cn.Close()
	stop := context.AfterFunc(br.ctx, func() { cn.Close() })
	defer stop()

	if err := s.subscribe(cn); err != nil {
		s.become(br, echo.Gone, err)
		return since, fmt.Errorf("subscribing: %w", err)
	}
	since = time.Now()
	s.bus.subscribed(br, s)
	defer s.bus.unsubscribed(br)
	err = s.hearken(br, cn)
	if !errors.Is(err, echo.ErrSilent) {
		s.become(br, echo.Gone, err)
	}
	return since, err
}

// hearken hears a subscribed connection until the connection ends or is silent. The
// topic is live on it at once, or, if the connection before was silent, once an echo
// has come back.
func (s *subscription) hearken(br *broker, cn *conn) error {
	if !s.isSilent(br) {
		s.become(br, echo.Live, nil)
	}
	ear := echo.New(s.bus.channel, s.anyEntity(), func(ctx context.Context, body []byte) error {
		ctx, cancel := context.WithTimeout(ctx, echoTimeout)
		defer cancel()
		return br.publisher.publish(ctx, s.topic, body)
	})
	ctx, cancel := context.WithCancel(br.ctx)
	verdict := make(chan error, 1)
	go func() {
		err := ear.Listen(ctx, func() { s.become(br, echo.Live, nil) })
		if errors.Is(err, echo.ErrSilent) {
			s.become(br, echo.Silent, fmt.Errorf("%s: %w", br.addr, err))
			cn.Close() // the channel may be gone: a new connection makes a new one
		}
		verdict <- err
	}()
	err := s.hear(cn, ear)
	cancel()
	if v := <-verdict; errors.Is(v, echo.ErrSilent) {
		return v
	}
	return err
}

// echoTimeout is how long an nsqd may take to acknowledge an echo.
const echoTimeout = 2 * time.Second

// anyEntity returns one of the topic's entity types: the first by name.
func (s *subscription) anyEntity() (any shared.EntityType) {
	for entity := range *s.listeners.Load() {
		if any == "" || entity < any {
			any = entity
		}
	}
	return any
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

func (s *subscription) isSilent(br *broker) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reach.State(br) == echo.Silent
}

// become sets the topic's state on one nsqd, and tells the listeners and the log of the
// change.
func (s *subscription) become(br *broker, now echo.State, err error) {
	was := s.bus.become(br, s, now)
	c := s.bus.config
	switch {
	case was == now || br.ctx.Err() != nil:
	case now == echo.Silent:
		c.Logger.Warn("this nsqd acknowledges messages and does not deliver them; subscribing anew until it does",
			slog.String("addr", br.addr), slog.String("topic", s.topic))
	case was == echo.Silent && now == echo.Live:
		c.Logger.Warn("this nsqd delivers messages again", slog.String("addr", br.addr), slog.String("topic", s.topic))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	live, lost := s.reach.Set(br, now)
	switch {
	case live:
		s.each(bus.Listener.Live)
	case lost && s.bus.ctx.Err() == nil:
		// Forgetting the last nsqd is a loss too; Close is not.
		s.each(func(l bus.Listener) { l.Lost(err) })
	}
}

// messageHead is the size of the head before a message's body: a time stamp, the number
// of attempts, and the id.
const messageHead = 8 + 2 + nsq.MsgIDLength

var errShortMessage = errors.New("a message shorter than its head")

// hear passes messages on. One goroutine can read, acknowledge and answer heartbeats,
// because listeners return at once.
func (s *subscription) hear(cn *conn, ear *echo.Ear) error {
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
			if !ear.Hear(body) {
				s.message(body)
			}
			if err := s.finish(cn, id); err != nil {
				return err
			}
		case kind == nsq.FrameTypeResponse && string(data) == heartbeat:
			if err := cn.send(nsq.Nop()); err != nil {
				return err
			}
		case kind == nsq.FrameTypeError:
			// Such as E_FIN_FAILED for a message that had timed out. After a fatal error
			// nsqd ends the connection, and the next read fails.
			if n, say := s.errors.Again(); say {
				s.bus.config.Logger.Warn("nsqd reports an error", slog.String("topic", s.topic),
					slog.Uint64("so_far", n), slog.Any("error", nsqError(data)))
			}
		default:
			return errors.New("an unexpected frame")
		}
	}
}

// message gives a body to the listeners of its entity type.
func (s *subscription) message(body []byte) {
	if s.bus.config.SharedTopic == "" { // each topic carries one entity type
		s.each(func(l bus.Listener) { l.Message(body) })
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
