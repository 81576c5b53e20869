package nsqbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/backoff"
)

// ready is how many messages nsqd may have under way to one connection: its
// own limit. Messages are only noted and acknowledged, so many never hurt.
const ready = 2500

// subscription listens to one topic on every nsqd, one connection each.
type subscription struct {
	bus      *Bus
	topic    string
	listener bridge.Listener

	// mu keeps Live and Lost in the order in which the connections came and
	// went. It is held across those calls, which return at once.
	mu   sync.Mutex
	live int // connections subscribed
}

// run keeps the topic subscribed on one nsqd until ctx ends.
func (s *subscription) run(ctx context.Context, addr string) {
	c := s.bus.config
	wait := backoff.Policy{Min: c.Reconnect / 10, Max: c.Reconnect}
	for failures := 1; ; failures++ {
		subscribed, err := s.listen(ctx, addr)
		if ctx.Err() != nil {
			return
		}
		if subscribed {
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

// listen subscribes on one nsqd and hears it until the connection ends.
func (s *subscription) listen(ctx context.Context, addr string) (subscribed bool, err error) {
	cn, err := dial(ctx, addr, s.bus.config)
	if err != nil {
		return false, err
	}
	defer cn.Close()
	stop := context.AfterFunc(ctx, func() { cn.Close() })
	defer stop()

	if err := cn.send(nsq.Subscribe(s.topic, s.bus.channel)); err != nil {
		return false, fmt.Errorf("subscribing: %w", err)
	}
	if _, err := cn.response(); err != nil {
		return false, fmt.Errorf("subscribing: %w", err)
	}
	if err := cn.send(nsq.Ready(ready)); err != nil {
		return false, fmt.Errorf("subscribing: %w", err)
	}
	s.up()
	err = s.hear(cn)
	s.down(ctx, err)
	return true, err
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
			s.bus.config.Logger.Warn("nsqd reports an error", slog.String("topic", s.topic), slog.Any("error", nsqError(data)))
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
