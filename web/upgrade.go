package web

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

// readBuffer is for what clients say, which is short: a subscription or two fit. Of a
// longer message the rest is read past it. Each client has one, and gorilla takes none
// of 256 bytes or less.
const readBuffer = 288

// upgrade is gorilla's Upgrade, but says with what the connection is read, so that a
// session can see whether there is more to read already, and what comes next.
func upgrade(u *websocket.Upgrader, w http.ResponseWriter, r *http.Request) (*websocket.Conn, *bufio.Reader, error) {
	h := &hijacker{ResponseWriter: w}
	conn, err := u.Upgrade(h, r, nil)
	return conn, h.reader, err
}

// hijacker hands over the connection with a small reader in place of the server's.
type hijacker struct {
	http.ResponseWriter
	reader *bufio.Reader
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil || rw.Reader.Buffered() > 0 { // the client talks too early: it is refused
		return conn, rw, err
	}
	h.reader = bufio.NewReaderSize(conn, readBuffer)
	return conn, bufio.NewReadWriter(h.reader, rw.Writer), nil
}
