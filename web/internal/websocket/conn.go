// Package websocket carries messages to and from one client over WebSocket (RFC 6455): the
// upgrade, frames, what the client says, and when it counts as gone. It knows nothing of
// what the messages mean.
//
// A Conn whose client says nothing has no goroutine, where the system allows that.
//
// A Conn's lock is taken before those of the timers and of the poller, and before no other.
package websocket

import (
	"bufio"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/instant"
	"github.com/entity-sync/entity-sync/web/internal/socket"
	"github.com/entity-sync/entity-sync/web/internal/timers"
)

// Config is what the connections of a node have in common. All of it is required.
type Config struct {
	// MaxMessageBytes bounds a message from a client.
	MaxMessageBytes int64

	// PingInterval is how often a client is asked whether it is there, and PongWait how
	// long it may take to answer.
	PingInterval, PongWait time.Duration

	// WriteTimeout is how long a client may read nothing at all while something is
	// written to it, and CloseWait how long one that was told to go may take to hang up.
	WriteTimeout, CloseWait time.Duration

	Poller *socket.Poller
	Timers *timers.Queue
}

// Owner is whose a Conn is. It is called without a lock.
type Owner interface {
	// Receive takes the client's next message, which is UTF-8. The one after it is read
	// when Receive returns.
	Receive(message []byte)

	// Control is told of a ping or a pong of the client's. answer is a frame that a ping
	// is to be answered with, which takes the place of an earlier one; nil for a pong.
	// More is read when Control returns.
	Control(answer []byte)

	// Ask has a ping sent.
	Ask()

	// Ended says that nothing more will be read, and why. The owner calls End.
	Ended(err error)
}

// Conn is one client's connection.
type Conn struct {
	config *Config
	ws     *websocket.Conn // nil before the request is answered
	reader bufio.Reader    // that ws reads from
	lent   *bufio.Reader   // of spareReaders, whose buffer the reader has; nil while it has none
	owner  Owner
	socket socket.Socket
	timer  timers.Entry // for the next ping, or the end of the wait for an answer

	farewell *[]byte // what gorilla has said last, nil for nothing, as of most clients; of the goroutine that reads

	mu       sync.Mutex // guards what follows
	nextPing instant.Instant
	silent   instant.Instant // when the client counts as gone, unless it is heard of before
	asked    *question       // the first since it was heard of; nil if it was not asked
	looked   bool            // for what may lie in the socket, since it was heard of
	parked   bool            // there is no goroutine that reads, until resume
	leaving  bool            // told to go away
	ended    bool            // the timer does not start any more

	endOfMessage instant.Instant // when the next part of the message that is being read must be there; zero between two
}

// question is that a client was asked whether it is there.
type question struct {
	at      instant.Instant
	written socket.Progress // then, or when the client was given more time
}

func newConn(config *Config, conn net.Conn) *Conn {
	return &Conn{config: config, socket: socket.New(conn)}
}

// upgraded has the connection go on as ws.
func (c *Conn) upgraded(ws *websocket.Conn) {
	c.ws = ws
	ws.SetReadLimit(c.config.MaxMessageBytes)
	// gorilla's own handlers write to the connection; what is written here waits for
	// its turn.
	ws.SetPingHandler(func(data string) error { return c.control(appendFrame(nil, websocket.PongMessage, []byte(data))) })
	ws.SetPongHandler(func(string) error { return c.control(nil) })
	ws.SetCloseHandler(closeHandler)
}

// closeHandler leaves it to Farewell to answer a close frame.
func closeHandler(int, string) error { return nil }

// Subprotocol returns the one that was agreed on, or the empty text.
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// Immediate reports whether TryWrite takes something.
func (c *Conn) Immediate() bool { return c.socket.Immediate() }

// Start has the client's messages read from now on.
func (c *Conn) Start(o Owner) {
	c.owner = o
	c.mu.Lock()
	c.nextPing = instant.Now().Add(c.config.PingInterval)
	c.config.Timers.Schedule(&c.timer, c.nextPing, (*due)(c))
	c.mu.Unlock()
	if err := c.extendDeadline(); err != nil || !c.park() {
		go c.read()
	}
}

// Leave gives the client, which was told to go, a moment to do so.
func (c *Conn) Leave() {
	c.mu.Lock()
	c.leaving = true
	err := c.ws.SetReadDeadline(time.Now().Add(c.config.CloseWait))
	c.mu.Unlock()
	if err != nil {
		c.CloseNow()
	}
	c.resume()
}

// IsLeaving reports whether the client was told to go.
func (c *Conn) IsLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// CloseNow ends the connection without a word. It may be called more than once.
func (c *Conn) CloseNow() {
	_ = c.socket.Close()
	c.resume()
}

// End lets go of everything, once the last frame was written, err being why nothing more
// is read.
func (c *Conn) End(err error) {
	c.mu.Lock()
	c.ended = true
	c.config.Timers.Stop(&c.timer)
	c.mu.Unlock()
	if !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		c.socket.Linger(c.config.CloseWait)
	}
	c.CloseNow()
	c.config.Poller.Forget(&c.socket, (*waiter)(c))
}

// TryWrite implements sendqueue.Transport.
func (c *Conn) TryWrite(room *socket.Scratch, frames net.Buffers) (rest net.Buffers, err error) {
	return c.socket.TryWrite(room, frames)
}

// Write implements sendqueue.Transport.
func (c *Conn) Write(frames net.Buffers, endBy func() time.Time) error {
	return c.socket.Write(frames, socket.Limits{Timeout: c.config.WriteTimeout, EndBy: endBy, Progress: c.extendDeadline})
}

// Ping implements sendqueue.Transport.
func (c *Conn) Ping() []byte { return pingFrame }

// Close implements sendqueue.Transport.
func (c *Conn) Close(code int, reason string) []byte { return closeFrame(code, reason) }
