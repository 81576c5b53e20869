// Package websocket carries messages to and from one client over WebSocket (RFC 6455): it has
// the upgrade, the frames, reading, and the rules by which a client counts as gone. It does
// not know what the messages mean.
//
// The Conn of an idle client has no goroutine, if the system allows that.
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

// Config is shared by all connections of a node. All fields are required.
type Config struct {
	// MaxMessageBytes bounds a message from a client.
	MaxMessageBytes int64

	// PingInterval is how often a client is pinged. PongWait is how long it may take to
	// answer.
	PingInterval, PongWait time.Duration

	// WriteTimeout is how long a client may read nothing at all while something is written to
	// it. CloseWait is how long it may take to hang up after a close frame.
	WriteTimeout, CloseWait time.Duration

	Poller *socket.Poller
	Timers *timers.Queue
}

// Owner owns a Conn. It is called without a lock.
type Owner interface {
	// Receive takes the client's next message, which is UTF-8. The next message is read when
	// Receive returns.
	Receive(message []byte)

	// Control is called for a ping or a pong of the client. For a ping, answer is the frame to
	// send, which replaces an earlier answer; for a pong it is nil. More is read when Control
	// returns.
	Control(answer []byte)

	// Ask sends the client a ping.
	Ask()

	// Ended says that nothing more will be read, and why. The owner then calls End.
	Ended(err error)
}

// Conn is one client's connection.
type Conn struct {
	config *Config
	ws     *websocket.Conn // nil before the request is answered
	reader bufio.Reader    // ws reads from it
	lent   *bufio.Reader   // of spareReaders, whose buffer reader has; nil while reader has none
	owner  Owner
	socket socket.Socket
	timer  timers.Entry // for the next ping, or the end of the wait for an answer

	farewell *[]byte // gorilla's last frame, nil for none, as of most clients; owned by the reading goroutine

	mu       sync.Mutex // guards what follows
	nextPing instant.Instant
	silent   instant.Instant // when the client counts as gone, if it sends nothing before
	asked    *question       // the first ping since the client last sent something; nil if none
	looked   bool            // the socket was read once more since the client last sent something
	parked   bool            // no goroutine reads, until resume
	leaving  bool            // the client was told to go
	ended    bool            // the timer does not start any more

	endOfMessage instant.Instant // when the next part of the message being read must be there; zero between messages
}

// question is a ping that the client has not answered yet.
type question struct {
	at      instant.Instant
	written socket.Progress // at that ping, or when the client was last given more time
}

func newConn(config *Config, conn net.Conn) *Conn {
	return &Conn{config: config, socket: socket.New(conn)}
}

// upgraded attaches gorilla's connection, once the request was answered.
func (c *Conn) upgraded(ws *websocket.Conn) {
	c.ws = ws
	ws.SetReadLimit(c.config.MaxMessageBytes)
	// gorilla's own handlers would write to the connection. Here the owner writes the answer
	// when it is its turn.
	ws.SetPingHandler(func(data string) error { return c.control(appendFrame(nil, websocket.PongMessage, []byte(data))) })
	ws.SetPongHandler(func(string) error { return c.control(nil) })
	ws.SetCloseHandler(closeHandler)
}

// closeHandler does not answer a close frame, because Farewell does.
func closeHandler(int, string) error { return nil }

// Subprotocol returns the agreed subprotocol, or the empty text.
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// Immediate reports whether TryWrite is of use.
func (c *Conn) Immediate() bool { return c.socket.Immediate() }

// Start starts reading the client's messages.
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

// Leave gives a client that was told to go a moment to do so.
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

// CloseNow ends the connection without a close frame. It may be called more than once.
func (c *Conn) CloseNow() {
	_ = c.socket.Close()
	c.resume()
}

// End releases everything, once the last frame was written. err is why nothing more is read.
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
