package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
)

const (
	dialTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second
	// silence is how long the server may say nothing; it pings every 25 s.
	silence = time.Minute
)

// message is what a client says.
type message struct {
	Action shared.Action `json:"action"`
	Body   any           `json:"body"`
}

// subscription is a key, and that its row is wanted as it is now: after a break
// nobody knows what was missed.
type subscription struct {
	shared.EntityKey
	Snapshot bool `json:"snapshot"`
}

// watch connects, says who is there, subscribes to keys, and writes each row
// that comes as a line. It calls live when it has subscribed, and returns when
// the connection or ctx ends.
func watch(ctx context.Context, url, secret string, keys []shared.EntityKey, rows io.Writer, live func()) error {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, _, err := websocket.DefaultDialer.DialContext(dial, url, nil)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { goodbye(conn) })()

	if err := greet(conn, secret, keys); err != nil {
		return err
	}
	live()
	alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(silence)) }
	pong := conn.PingHandler()
	conn.SetPingHandler(func(data string) error {
		_ = alive(data) // a connection that is gone is noticed by the read
		return pong(data)
	})
	for {
		_ = alive("")
		_, row, err := conn.ReadMessage()
		if err != nil {
			return fmt.Errorf("the connection ended: %w", err)
		}
		if _, err := fmt.Fprintf(rows, "%s\n", row); err != nil {
			return fmt.Errorf("printing a row: %w", err)
		}
	}
}

// greet says who is there and what to watch.
func greet(conn *websocket.Conn, secret string, keys []shared.EntityKey) error {
	messages := []message{{shared.ActionSecret, secret}}
	for _, key := range keys {
		messages = append(messages, message{shared.ActionSubscribe, subscription{key, true}})
	}
	for _, m := range messages {
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if err := conn.WriteJSON(m); err != nil {
			return fmt.Errorf("subscribing: %w", err)
		}
	}
	return nil
}

// goodbye ends the connection politely, and at once.
func goodbye(conn *websocket.Conn) {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
	conn.Close()
}
