package server

import (
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bench/workload"
)

// gorillaHub is gorilla's chat example with a message prepared once for all, and an
// index of who watches what in place of one room: two goroutines and a channel for
// each client.
type gorillaHub struct {
	table    *workload.Table
	upgrader websocket.Upgrader
	index    *index[*gorillaClient]
}

type gorillaClient struct {
	conn *websocket.Conn
	send chan *websocket.PreparedMessage
}

// Those of the example.
const (
	chatWriteWait  = 10 * time.Second
	chatPongWait   = 60 * time.Second
	chatPingPeriod = chatPongWait * 9 / 10
	chatQueue      = 256
)

func newGorilla(t *workload.Table) *gorillaHub {
	return &gorillaHub{table: t, index: newIndex[*gorillaClient](), upgrader: websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}}
}

func (h *gorillaHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := h.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &gorillaClient{conn, make(chan *websocket.PreparedMessage, chatQueue)}
	go c.write()
	go h.read(c)
}

func (h *gorillaHub) read(c *gorillaClient) {
	defer func() {
		h.index.remove(c)
		close(c.send)
		c.conn.Close()
	}()
	extend := func(string) error { return c.conn.SetReadDeadline(time.Now().Add(chatPongWait)) }
	c.conn.SetPongHandler(extend)
	if extend("") != nil {
		return
	}
	for {
		_, message, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		key, err := readSubscription(message)
		if err != nil {
			return
		}
		h.index.add(c, key)
	}
}

func (c *gorillaClient) write() {
	ticker := time.NewTicker(chatPingPeriod)
	defer func() {
		ticker.Stop()
		c.conn.Close()
	}()
	for {
		select {
		case message, open := <-c.send:
			if !open || c.conn.SetWriteDeadline(time.Now().Add(chatWriteWait)) != nil {
				return
			}
			if c.conn.WritePreparedMessage(message) != nil {
				return
			}
		case <-ticker.C:
			if c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(chatWriteWait)) != nil {
				return
			}
		}
	}
}

func (h *gorillaHub) change(key int) (err error) {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, h.table.Get(key).Append(nil))
	if err != nil {
		return err
	}
	h.index.each(key, func(clients []*gorillaClient) {
		for _, c := range clients {
			select {
			case c.send <- message:
			default:
				c.conn.Close() // as the example does: its reader takes it out
			}
		}
	})
	return nil
}

func (h *gorillaHub) watched() int { return h.index.len() }
