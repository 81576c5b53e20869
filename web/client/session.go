package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// session is one connection. One goroutine reads, one writes, and one waits for the
// client to be closed.
type session struct {
	client *Client
	conn   *websocket.Conn
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	work   sync.WaitGroup
	wake   chan struct{} // there is something in queue, left, later or topics
	out    chan outgoing
	failed error // the writer's, once it has ended

	// Owned by the reading goroutine.
	letIn time.Time // when the server accepted the client; zero before

	// Guarded by the client's mutex.
	stale    bool     // the server has said so
	queue    []*entry // keys to subscribe to
	left     []*entry // keys that nothing watches any more
	later    []*entry // keys that were refused for now, until they are due
	topics   topicLists
	requests map[int]request
	refs     int
	renewing bool
}

// request is a request that was sent and not answered yet.
type request struct {
	secret bool
	keys   []*entry // the keys to which it subscribes

	topics    []topicAsk   // the topics to which it subscribes
	published chan<- error // gets the answer to an event; has room for it
}

// outgoing is a message to be written.
type outgoing struct {
	message []byte
	done    chan error // has room for one value
}

func newSession(c *Client, conn *websocket.Conn) *session {
	s := &session{client: c, conn: conn, wake: make(chan struct{}, 1), out: make(chan outgoing), requests: make(map[int]request)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	answer := conn.PingHandler()
	conn.SetPingHandler(func(data string) error {
		s.heard()
		return answer(data)
	})
	conn.SetPongHandler(func(string) error {
		s.heard()
		return nil
	})
	return s
}

// run serves the connection until it ends, and returns why it ended. The server must accept
// the secret before the deadline.
func (s *session) run(secret shared.Secret, deadline time.Time) error {
	s.work.Go(s.sayGoodbye)
	s.work.Go(s.write)
	err := s.conn.SetReadDeadline(deadline)
	if err == nil {
		err = s.begin(secret)
	}
	for err == nil {
		err = s.receive()
	}
	s.leave()
	s.cancel()
	_ = s.conn.Close()
	s.work.Wait()
	var (
		closed  *websocket.CloseError
		refused refusedSecret
	)
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return farewell{closed}
	case s.failed != nil:
		return s.failed
	default:
		return fmt.Errorf("the connection broke: %w", err)
	}
}

// begin sends the secret, if the client sends one at all.
func (s *session) begin(secret shared.Secret) error {
	if !s.client.saysSecret() {
		return s.enter()
	}
	s.say(secret)
	return nil
}

// say sends a secret.
func (s *session) say(secret shared.Secret) {
	c := s.client
	c.mu.Lock()
	s.refs++
	ref := s.refs
	s.requests[ref] = request{secret: true}
	c.mu.Unlock()
	select {
	case s.out <- outgoing{wire.SecretRequest(ref, secret.Reveal()), make(chan error, 1)}:
	case <-s.ctx.Done():
	}
}

// enter notes that the server has accepted the client, and subscribes to the keys.
func (s *session) enter() error {
	s.letIn = time.Now()
	c := s.client
	c.mu.Lock()
	c.session = s
	for _, e := range c.entries {
		c.askLocked(e)
	}
	for _, e := range c.topics {
		c.askTopicLocked(e)
	}
	s.freshnessLocked()
	c.mu.Unlock()
	c.report(nil)
	c.log.Debug("connected")
	s.heard()
	return nil
}

// freshnessLocked sets the state of the connection to what the server says of it.
func (s *session) freshnessLocked() {
	switch {
	case s.client.session != s: // the server has not accepted the client yet
	case s.stale:
		s.client.setStateLocked(Status{State: Stale})
	default:
		s.client.setStateLocked(Status{State: Live})
	}
}

// isLetIn reports whether the server has accepted the client.
func (s *session) isLetIn() bool {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.client.session == s
}

// leave notes that the connection has ended.
func (s *session) leave() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != s {
		return
	}
	c.session = nil
	for key, e := range c.entries {
		e.disconnect()
		if len(e.subs) == 0 {
			delete(c.entries, key)
		}
	}
	c.disconnectTopicsLocked()
}

// heard gives the server until after the next ping to send something again.
func (s *session) heard() {
	if !s.letIn.IsZero() { // until then run's deadline holds
		_ = s.conn.SetReadDeadline(time.Now().Add(s.client.options.PingInterval + s.client.options.PongWait)) // if it fails so does the next read
	}
}

// attentive calls heard for every part of a long message.
type attentive struct {
	io.Reader
	session *session
}

func (a attentive) Read(b []byte) (int, error) {
	n, err := a.Reader.Read(b)
	if n > 0 {
		a.session.heard()
	}
	return n, err
}

// receive reads one message and acts on it. An error ends the connection.
func (s *session) receive() error {
	kind, r, err := s.conn.NextReader()
	if err != nil {
		return err
	}
	s.heard()
	message, whole, err := readUpTo(attentive{r, s}, s.client.options.MaxUpdateBytes)
	switch {
	case err != nil:
		return err
	case kind != websocket.TextMessage: // it is not of the protocol
		return nil
	case !whole:
		return s.tooLarge(message)
	}
	if r, ok := wire.ReadReply(message); ok {
		return s.act(r)
	}
	if s.client.options.OnMessage != nil {
		s.client.options.OnMessage(message)
	}
	return nil
}

// act acts on a reply of the server.
func (s *session) act(r wire.Reply) error {
	c := s.client
	switch r.Action {
	case wire.ActionAck, wire.ActionError:
		return s.answered(r)
	case wire.ActionExpiring:
		s.expiring()
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch r.Action {
	case wire.ActionEvent, wire.ActionGap:
		s.aboutTopicLocked(r)
	case wire.ActionStale, wire.ActionFresh:
		s.stale = r.Action == wire.ActionStale
		s.freshnessLocked()
	default:
		if r.Topic != "" && r.Action == wire.ActionUnsubscribed {
			s.aboutTopicLocked(r)
			return nil
		}
		e := c.entries[r.Key]
		if e == nil || !e.confirmed {
			return nil // it is about a subscription that has ended since
		}
		if r.Action == wire.ActionUnsubscribed {
			s.refuseLocked(e, errorOf(r))
		} else {
			e.about(r)
		}
		c.publishLocked(e)
	}
	return nil
}

// answered acts on the answer to a request.
func (s *session) answered(answer wire.Reply) error {
	c := s.client
	ref, _ := strconv.Atoi(string(answer.Ref)) // the Client's refs are numbers from 1 on
	why := errorOf(answer)
	refused := answer.Action == wire.ActionError
	c.mu.Lock()
	r, ours := s.requests[ref]
	switch {
	case !ours:
		if refused {
			c.log.Warn("the server complains", slog.Any("error", why))
		}
	case r.secret:
		delete(s.requests, ref)
		if s.letIn.IsZero() {
			c.mu.Unlock()
			if refused {
				return refusedSecret{why}
			}
			return s.enter()
		}
		s.renewed(why)
	case r.topics != nil:
		s.topicsAnsweredLocked(ref, r.topics, answer)
	case r.published != nil:
		delete(s.requests, ref)
		if refused {
			r.published <- why
		} else {
			r.published <- nil
		}
	case refused:
		all := answer.Key == shared.EntityKey{} && answer.Index == nil // the refusal names no key
		if all {
			delete(s.requests, ref)
		}
		for i, e := range r.keys {
			if e.asked && (all || answer.Key == e.key || answer.Index != nil && *answer.Index == i) {
				s.refuseLocked(e, why)
				c.publishLocked(e)
			}
		}
	default:
		delete(s.requests, ref)
		for _, e := range r.keys {
			e.confirmed = e.asked
		}
	}
	c.mu.Unlock()
	return nil
}

// refuseLocked notes that a key is not subscribed to.
func (s *session) refuseLocked(e *entry, why *Error) {
	if why.Code != string(wire.CodeUnavailable) {
		e.deny(why)
		return
	}
	e.disconnect()
	s.putOffLocked(e)
}

// expiring gets a new secret, because the server says that the present one expires soon.
func (s *session) expiring() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.options.SecretFunc == nil {
		c.log.Warn("the credentials expire soon")
		return
	}
	if !s.renewing {
		s.renewing = true
		s.work.Go(s.renew)
	}
}

// wakeUp makes the writer look for something to do.
func (s *session) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write writes the messages until the connection ends. Only this goroutine writes, except for
// control frames.
func (s *session) write() {
	ping := time.NewTicker(s.client.options.PingInterval)
	defer ping.Stop()
	again := time.NewTimer(math.MaxInt64)
	defer again.Stop()
	for {
		var err error
		select {
		case <-s.ctx.Done():
			return
		case o := <-s.out:
			err = s.send(websocket.TextMessage, o.message)
			o.done <- err
		case <-ping.C:
			err = s.send(websocket.PingMessage, nil)
		case <-s.wake:
			err = s.request()
			again.Reset(s.untilDue())
		case <-again.C:
			s.askDue()
			again.Reset(s.untilDue())
		}
		if err != nil {
			s.failed = fmt.Errorf("writing: %w", err)
			s.cancel()
			_ = s.conn.Close() // ends the reading
			return
		}
	}
}

func (s *session) send(kind int, message []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.client.options.WriteTimeout)); err != nil {
		return err
	}
	return s.conn.WriteMessage(kind, message)
}

// goodbyeWait is how long a server may take to answer a goodbye.
const goodbyeWait = time.Second

// sayGoodbye ends the connection when the client is closed.
func (s *session) sayGoodbye() {
	select {
	case <-s.ctx.Done():
		return
	case <-s.client.ctx.Done():
	}
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = s.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(goodbyeWait))
	if s.isLetIn() { // a server that has not accepted the client is not waited for
		select {
		case <-s.ctx.Done():
		case <-time.After(goodbyeWait):
		}
	}
	_ = s.conn.Close()
}
