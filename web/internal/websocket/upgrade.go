package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// readBuffer is for what clients say, which is short: a subscription or two fit. Of a
// longer message the rest is read past it. Each client has one, and gorilla takes none
// of 256 bytes or less.
const readBuffer = 288

// Upgrader makes connections of requests.
type Upgrader struct {
	config Config
	ws     websocket.Upgrader
}

// NewUpgrader returns an Upgrader that agrees on one of the subprotocols. Where it finds
// something wrong with a request it has refuse answer it.
func NewUpgrader(c Config, subprotocols []string, refuse func(w http.ResponseWriter, r *http.Request, status int, reason error)) *Upgrader {
	return &Upgrader{config: c, ws: websocket.Upgrader{
		// Nothing is written through gorilla but its own farewells, so its write
		// buffer is lent for those alone.
		WriteBufferPool: &sync.Pool{},
		CheckOrigin:     func(*http.Request) bool { return true }, // which is checked before
		Error:           refuse,
		Subprotocols:    subprotocols,
	}}
}

// IsUpgrade reports whether a request asks for a WebSocket.
func IsUpgrade(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

// IsAnswered reports whether an error of Upgrade's is one that refuse has answered. Else
// the client has talked before it was let in, or is gone.
func IsAnswered(err error) bool {
	answered := (websocket.HandshakeError{})
	return errors.As(err, &answered)
}

// Upgrade makes a connection of a request. It sees each header with subprotocols, and
// answers with the headers that middleware has set. Nothing is read before Start.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	h := &hijacker{ResponseWriter: w}
	const offer = "Sec-Websocket-Protocol"
	if several := r.Header[offer]; len(several) > 1 { // RFC 6455, section 11.3.4: they are one list; gorilla reads the first
		joined := *r
		joined.Header = r.Header.Clone()
		joined.Header.Set(offer, strings.Join(several, ", "))
		r = &joined
	}
	ws, err := u.ws.Upgrade(h, r, others(w.Header()))
	if err != nil {
		return nil, err
	}
	return newConn(&u.config, ws, h.below), nil
}

// others returns the headers that are neither the upgrade's own nor about a body.
func others(all http.Header) http.Header {
	left := make(http.Header)
	for name, values := range all {
		switch {
		case name == "Connection", name == "Upgrade", name == "Trailer", name == "Transfer-Encoding", strings.HasPrefix(name, http.TrailerPrefix):
		case strings.HasPrefix(name, "Content-"), strings.HasPrefix(name, "Sec-Websocket-"), strings.ContainsAny(name, " :\r\n"):
		default:
			left[name] = values
		}
	}
	return left
}

// below is the connection that gorilla has. The Conn above writes to the one in it, and
// takes its reader, to see whether there is more to read already, and what comes next.
type below struct {
	net.Conn
	reader *bufio.Reader
	above  *Conn // nil before there is one
}

// Read reads on where the time was over because this node has slept, or before the client
// was asked: see readOn. gorilla must not see that, for it never reads again.
func (b *below) Read(p []byte) (int, error) {
	for {
		n, err := b.Conn.Read(p)
		if n > 0 || !IsTimeout(err) || b.above == nil || !b.above.readOn() {
			return n, err
		}
	}
}

// Write writes the answer to the upgrade. What gorilla writes after that are farewells
// of its own: that the protocol was broken, or a message too large. Somebody may be in the
// midst of writing another frame, and so they are kept for Farewell.
func (b *below) Write(p []byte) (int, error) {
	if b.above == nil {
		return b.Conn.Write(p)
	}
	b.above.farewell = bytes.Clone(p)
	return len(p), nil
}

// SetWriteDeadline does nothing: it would cut short what is being written.
func (b *below) SetWriteDeadline(time.Time) error { return nil }

// hijacker hands over the connection with a small reader in place of the server's.
type hijacker struct {
	http.ResponseWriter
	below *below
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil || rw.Reader.Buffered() > 0 { // the client talks too early: it is refused
		return conn, rw, err
	}
	h.below = &below{Conn: conn}
	h.below.reader = bufio.NewReaderSize(h.below, readBuffer)
	return h.below, bufio.NewReadWriter(h.below.reader, rw.Writer), nil
}
