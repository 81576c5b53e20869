package web

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// readBuffer is for what clients say, which is short: a subscription or two fit. Of a
// longer message the rest is read past it. Each client has one, and gorilla takes none
// of 256 bytes or less.
const readBuffer = 288

// upgrade is gorilla's Upgrade, but says on what the session is to go on. It sees each
// header with subprotocols, and answers with the headers that middleware has set.
func upgrade(u *websocket.Upgrader, w http.ResponseWriter, r *http.Request) (*websocket.Conn, *upgraded, error) {
	h := &hijacker{ResponseWriter: w}
	const offer = "Sec-Websocket-Protocol"
	if several := r.Header[offer]; len(several) > 1 { // RFC 6455, section 11.3.4: they are one list; gorilla reads the first
		joined := *r
		joined.Header = r.Header.Clone()
		joined.Header.Set(offer, strings.Join(several, ", "))
		r = &joined
	}
	conn, err := u.Upgrade(h, r, others(w.Header()))
	return conn, h.conn, err
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

// upgraded is the connection that gorilla has. The session writes to the one in it, and
// takes its reader, to see whether there is more to read already, and what comes next.
type upgraded struct {
	net.Conn
	reader *bufio.Reader
	out    *sendQueue // the session's; nil before there is one
}

// Read reads on where the time was over because this node has slept, or before the client
// was asked: see readOn. gorilla must not see that, for it never reads again.
func (c *upgraded) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if n > 0 || !isTimeout(err) || c.out == nil || !c.out.session.readOn() {
			return n, err
		}
	}
}

// Write writes the answer to the upgrade. What gorilla writes after that are farewells
// of its own: that the protocol was broken, or a message too large. The send queue may be in
// the midst of a frame, and writes them when it is their turn.
func (c *upgraded) Write(b []byte) (int, error) {
	if c.out == nil {
		return c.Conn.Write(b)
	}
	c.out.end(bytes.Clone(b))
	return len(b), nil
}

// SetWriteDeadline does nothing: it would cut short what the send queue is writing.
func (c *upgraded) SetWriteDeadline(time.Time) error { return nil }

// hijacker hands over the connection with a small reader in place of the server's.
type hijacker struct {
	http.ResponseWriter
	conn *upgraded
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil || rw.Reader.Buffered() > 0 { // the client talks too early: it is refused
		return conn, rw, err
	}
	h.conn = &upgraded{Conn: conn}
	h.conn.reader = bufio.NewReaderSize(h.conn, readBuffer)
	return h.conn, bufio.NewReadWriter(h.conn.reader, rw.Writer), nil
}
