package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// language is the wire that a client speaks. A world's clients take turns unless they are told.
type language int

const (
	anyWire language = iota
	classicWire
	v2Wire
)

// options say what a client does.
type options struct {
	dial     func() (addr string) // where to connect next
	dialer   *websocket.Dialer    // how; nil for as usual
	wire     language
	identity string // which it always says; empty for a new one each time

	// What is told of what happens, from the goroutine that reads; each may be nil.
	onRow      func(row)
	onEnd      func(error) // why a connection ended, or could not be made
	onExpiring func()      // its secret will not do any more soon; v2 alone
}

// client is a WebSocket client that watches some keys and reports what it gets.
// When its connection ends it connects again, to any node that is there.
type client struct {
	*watcher
	check *checker
	keys  []shared.EntityKey
	options
	random *rand.Rand

	stopping context.Context
	stop     context.CancelFunc
	ended    chan struct{}

	has memory // of the goroutine that reads

	mu       sync.Mutex // guards what follows
	user     string
	secrets  int // said so far: each is another identity
	refs     int // requests so far, on the v2 wire
	conn     *websocket.Conn
	session  *session
	failures int // connections that came to nothing, or ended
}

// startClient starts a client that goes on until leave.
func startClient(check *checker, random *rand.Rand, user string, o options, keys []shared.EntityKey) *client {
	if o.dialer == nil {
		o.dialer = websocket.DefaultDialer
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &client{
		check: check, keys: keys, options: o, random: random, user: user,
		stopping: ctx, stop: stop, ended: make(chan struct{}),
	}
	c.watcher = check.watch(fmt.Sprintf("%s-%d", user, random.Uint32()), keys)
	go c.run() // leave waits for it
	return c
}

// leave ends it.
func (c *client) leave() {
	c.stop()
	<-c.ended
	c.check.forget(c.watcher)
}

func (c *client) run() {
	defer close(c.ended)
	for c.stopping.Err() == nil {
		err := c.connect()
		if c.stopping.Err() != nil {
			return
		}
		c.failed()
		if c.onEnd != nil {
			c.onEnd(err)
		}
		wait, again := c.comeBack(err)
		if !again {
			return
		}
		select {
		case <-c.stopping.Done():
		case <-time.After(wait):
		}
	}
}

// comeBack says after how long to connect again, if at all, as the wires'
// description asks for.
func (c *client) comeBack(err error) (wait time.Duration, again bool) {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		switch {
		case wire.IsFinal(closed.Code):
			return 0, false
		case closed.Code == wire.CloseExpired:
			c.has = memory{}
		}
		if hint, ok := wire.ParseRetryHint(closed.Text); ok {
			return hint, true
		}
	}
	return time.Duration(20+c.random.IntN(200)) * time.Millisecond, true
}

// connect connects and reads until the connection ends, and returns why.
func (c *client) connect() error {
	ctx, cancel := context.WithTimeout(c.stopping, patience)
	addr := c.dial()
	conn, err := dialWire(ctx, c.dialer, addr, c.wire)
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(c.stopping, func() { conn.Close() })()
	if c.wire == v2Wire {
		return c.speakV2(conn, addr)
	}
	session := c.begin(conn)
	defer session.close()
	if err := c.subscribe(); err != nil {
		return err
	}
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		var r row
		if err := json.Unmarshal(message, &r); err != nil {
			c.check.breach("client %s got what is no row: %.100q", c.name, message)
			continue
		}
		session.saw(r)
		if c.onRow != nil {
			c.onRow(r)
		}
	}
}

func dialWire(ctx context.Context, dialer *websocket.Dialer, addr string, w language) (*websocket.Conn, error) {
	var header http.Header
	if w == v2Wire {
		header = http.Header{"Sec-WebSocket-Protocol": {wire.SubprotocolV2}}
	}
	conn, response, err := dialer.DialContext(ctx, "ws://"+addr+"/ws/entity-sync/", header)
	if err != nil {
		if response != nil {
			err = fmt.Errorf("%w: %s", err, response.Status)
		}
		return nil, err
	}
	return conn, nil
}

// subscription is the body of a subscribe message.
type subscription struct {
	shared.EntityKey
	Snapshot bool `json:"snapshot"`
}

// begin says who the client is.
func (c *client) begin(conn *websocket.Conn) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	identity := c.nextLocked()
	c.session = c.check.open(c.watcher, identity)
	_ = sendTo(conn, "secret", secretOf(identity)) // what fails here fails again at once
	return c.session
}

func (c *client) nextLocked() string {
	if c.identity != "" {
		return c.identity
	}
	c.secrets++
	return fmt.Sprintf("%s.%s.%d", c.user, c.name, c.secrets)
}

// become says another secret: that of the same user or of another one; and then,
// if asked to, subscribes again to all it watches.
func (c *client) become(user string, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return
	}
	c.user = user
	// The reader notices a connection that is gone.
	if c.wire == v2Wire {
		c.sayV2Locked()
	} else {
		identity := c.nextLocked()
		c.session.become(identity)
		_ = sendTo(c.conn, "secret", secretOf(identity))
	}
	if again {
		_ = c.subscribeLocked()
	}
}

// subscribe subscribes to all that it watches, also where it has.
func (c *client) subscribe() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subscribeLocked()
}

func (c *client) subscribeLocked() (err error) {
	if c.wire == v2Wire {
		return c.subscribeV2Locked(nil)
	}
	for _, k := range c.keys {
		err = firstError(err, sendTo(c.conn, "subscribe", subscription{k, true}))
	}
	return err
}

// hangUp ends its connection, so that it connects again.
func (c *client) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
}

// settled reports whether rows of the newest identity have arrived.
func (c *client) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil && c.session.settled()
}

func sendTo(conn *websocket.Conn, action string, body any) error {
	return conn.WriteJSON(struct {
		Action string `json:"action"`
		Body   any    `json:"body"`
	}{action, body})
}

func (c *client) failed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures++
}

// ends returns how often its connection ended, or could not be made, so far.
func (c *client) ends() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failures
}

// slowDialer makes connections whose receive buffer in the kernel is as small as
// can be, so that a node notices soon that nobody reads.
func slowDialer() *websocket.Dialer {
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return firstError(c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		}), err)
	}}
	return &websocket.Dialer{NetDialContext: small.DialContext, ReadBufferSize: 4 << 10}
}

// dialAs connects, says a secret and subscribes; reading is up to the caller.
func dialAs(ctx context.Context, dialer *websocket.Dialer, addr, identity string, keys ...shared.EntityKey) (*websocket.Conn, error) {
	conn, err := dialWire(ctx, dialer, addr, classicWire)
	if err != nil {
		return nil, err
	}
	err = sendTo(conn, "secret", secretOf(identity))
	for _, k := range keys {
		err = firstError(err, sendTo(conn, "subscribe", subscription{k, true}))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
