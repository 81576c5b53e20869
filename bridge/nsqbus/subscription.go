package nsqbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/backoff"
)

// maxReady is how many messages nsqd may have under way to one connection, if
// it allows so many. They are only noted and acknowledged, so many never hurt.
const maxReady = 2500

// subscription listens to one topic on every nsqd, one connection each.
type subscription struct {
	bus      *Bus
	topic    string
	listener bridge.Listener

	// mu keeps Live and Lost in the order in which the connections came and
	// went. It is held across those calls, which return at once.
	mu   sync.Mutex
	live int // connections subscribed

	errors atomic.Uint64 // error frames, for the log
}

// run keeps the topic subscribed on one nsqd until ctx ends.
func (s *subscription) run(ctx context.Context, addr string) {
	c := s.bus.config
	wait := backoff.Policy{Min: c.Reconnect / 10, Max: c.Reconnect}
	for failures := 1; ; failures++ {
		since, err := s.listen(ctx, addr)
		if ctx.Err() != nil {
			return
		}
		// A peer that takes the subscription and drops it again is no better
		// than one that refuses: each time, everything watched is looked at.
		if !since.IsZero() && time.Since(since) > c.Reconnect {
			failures = 1
		}
		// Logged the 1st, 2nd, 4th, 8th … time: an nsqd may be gone for days.
		if failures&(failures-1) == 0 {
			c.Logger.Warn("not subscribed on this nsqd; trying again", slog.String("addr", addr),
				slog.String("topic", s.topic), slog.Int("failures", failures), slog.Any("error", err))
		}
		select {
		case <-time.After(wait.Delay(failures)):
		case <-ctx.Done():
			return
		}
	}
}

// listen subscribes on one nsqd and hears it until the connection ends. It
// returns when it was subscribed, zero for never.
func (s *subscription) listen(ctx context.Context, addr string) (since time.Time, err error) {
	cn, err := dial(ctx, addr, s.bus.config)
	if err != nil {
		return since, err
	}
	defer cn.Close()
	stop := context.AfterFunc(ctx, func() { cn.Close() })
	defer stop()

	if err := s.subscribe(cn); err != nil {
		return since, fmt.Errorf("subscribing: %w", err)
	}
	since = time.Now()
	s.up()
	err = s.hear(cn)
	s.down(ctx, err)
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

func (s *subscription) up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live++
	// Not only the first: what another node published on this nsqd while this
	// connection was gone was not heard here.
	s.listener.Live()
}

func (s *subscription) down(ctx context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live--
	if s.live == 0 && ctx.Err() == nil {
		s.listener.Lost(err)
	}
}

// hear passes messages on. One goroutine reads, acknowledges and answers
// heartbeats, because the listener never keeps it waiting.
func (s *subscription) hear(cn *conn) error {
	for {
		kind, data, err := cn.frame()
		if err != nil {
			return err
		}
		switch {
		case kind == nsq.FrameTypeMessage:
			m, err := nsq.DecodeMessage(data)
			if err != nil {
				return fmt.Errorf("decoding a message: %w", err)
			}
			s.listener.Message(m.Body)
			if err := s.finish(cn, m.ID); err != nil {
				return err
			}
		case kind == nsq.FrameTypeResponse && string(data) == heartbeat:
			if err := cn.send(nsq.Nop()); err != nil {
				return err
			}
		case kind == nsq.FrameTypeError:
			// Such as E_FIN_FAILED, where a message had timed out. What is fatal
			// ends the connection, and that is seen by the next read.
			if n := s.errors.Add(1); n&(n-1) == 0 {
				s.bus.config.Logger.Warn("nsqd reports an error", slog.String("topic", s.topic),
					slog.Uint64("so_far", n), slog.Any("error", nsqError(data)))
			}
		default:
			return errors.New("an unexpected frame")
		}
	}
}

// finish acknowledges a message. It writes to the network only when no further
// message has been read already, so that a burst is acknowledged in few writes.
func (s *subscription) finish(cn *conn, id nsq.MessageID) error {
	cmd := nsq.Finish(id)
	if cn.r.Buffered() == 0 {
		return cn.send(cmd)
	}
	if err := cn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := cmd.WriteTo(cn.w)
	return err
}
