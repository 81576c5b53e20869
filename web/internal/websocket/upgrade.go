package websocket

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// Upgrader makes connections of requests.
type Upgrader struct {
	config Config
	ws     websocket.Upgrader
}

// NewUpgrader returns an Upgrader that agrees on one of the subprotocols. refuse answers a
// request with which something is wrong.
func NewUpgrader(c Config, subprotocols []string, refuse func(w http.ResponseWriter, r *http.Request, status int, reason error)) *Upgrader {
	return &Upgrader{config: c, ws: websocket.Upgrader{
		// gorilla writes only close frames, so its write buffer is pooled.
		WriteBufferPool: &sync.Pool{},
		CheckOrigin:     func(*http.Request) bool { return true }, // the Handler has checked it
		Error:           refuse,
		Subprotocols:    subprotocols,
	}}
}

// IsUpgrade reports whether a request asks for a WebSocket.
func IsUpgrade(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

// IsAnswered reports whether refuse has answered an error of Upgrade. Otherwise the client has
// sent something before the answer, or is gone.
func IsAnswered(err error) bool {
	answered := (websocket.HandshakeError{})
	return errors.As(err, &answered)
}

// Upgrade makes a connection of a request. It considers each header with subprotocols, and
// answers with the headers that middleware has set. Nothing is read before Start.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	h := &hijacker{ResponseWriter: w, config: &u.config}
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
	h.conn.upgraded(ws)
	return h.conn, nil
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

// hijacker hands over the connection with a small reader in place of the server's.
type hijacker struct {
	http.ResponseWriter
	config *Config
	conn   *Conn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil || rw.Reader.Buffered() > 0 { // the client sends too early: it is refused
		return conn, rw, err
	}
	h.conn = newConn(h.config, conn)
	h.conn.takeBuffer()
	return (*lower)(h.conn), bufio.NewReadWriter(&h.conn.reader, rw.Writer), nil
}
