package server

import (
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bench/workload"
	"github.com/entity-sync/entity-sync/web/wire"
)

// bare is the reference: upgraded sockets, and a loop that writes one frame, made
// once, to each that watches the key. It reads nothing and looks nothing up: which
// keys a socket watches follows from the client's number in the URL.
type bare struct {
	layout   workload.Layout
	table    *workload.Table
	upgrader websocket.Upgrader

	mu    sync.Mutex
	conns []net.Conn // by client
	n     int
	frame []byte // room for one
}

func newBare(l workload.Layout, t *workload.Table) *bare {
	return &bare{layout: l, table: t, conns: make([]net.Conn, l.Clients), upgrader: websocket.Upgrader{
		ReadBufferSize: 1024, WriteBufferPool: &sync.Pool{}, Subprotocols: []string{wire.SubprotocolV2},
	}}
}

// upgraded is the small frame that says that a client was taken.
var upgraded = frame(nil, []byte(`{"action":"ack","ref":1}`))

// ServeHTTP lets go of all that came with the request but the socket.
func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, err := strconv.Atoi(r.URL.Query().Get("client"))
	if err != nil || client < 0 || client >= len(b.conns) {
		http.Error(w, "which client?", http.StatusBadRequest)
		return
	}
	conn, err := b.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	socket := conn.NetConn()
	if _, err := socket.Write(upgraded); err != nil {
		socket.Close()
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if before := b.conns[client]; before != nil {
		before.Close() // the client has come back
		b.n--
	}
	b.conns[client] = socket
	b.n++
}

func (b *bare) change(key int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frame = updateFrame(b.frame[:0], b.table.Get(key))
	first, n := 0, len(b.conns)
	if b.layout.Keys == b.layout.Subscriptions() { // each key has one client
		first, n = key/b.layout.Each, 1
	}
	for _, conn := range b.conns[first : first+n] {
		if conn == nil {
			return errors.New("a client is missing")
		}
		if _, err := conn.Write(b.frame); err != nil {
			return err
		}
	}
	return nil
}

func (b *bare) watched() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n * b.layout.Each
}

// updateFrame appends a frame as long as the one that Entity Sync sends of a row.
func updateFrame(b []byte, row workload.Row) []byte {
	var message [2 * workload.RowBytes]byte
	m := append(message[:0], `{"action":"update","body":{"entity":"`+workload.Entity+`","id":"`...)
	m = strconv.AppendInt(m, int64(row.Key), 10)
	m = append(m, `","version":"AAAAAAAAAAAAAAAAAAAAAA","rows":[`...)
	m = row.Append(m)
	return frame(b, append(m, "]}}"...))
}

// frame appends a text frame.
func frame(b, message []byte) []byte {
	const final, text = 0x80, 0x1
	b = append(b, final|text)
	if n := len(message); n < 126 {
		b = append(b, byte(n))
	} else {
		b = append(b, 126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return append(b, message...)
}
