package faults

import (
	"encoding/json"
	"slices"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// memory is what a v2 client keeps over a reconnect.
type memory struct {
	identity string // whose rows these are
	rows     map[shared.EntityKey]row
	versions map[shared.EntityKey]string
}

// listOf is how many keys a client subscribes to at once.
const listOf = 200

// speakV2 is a connection on the v2 wire, until it ends.
func (c *client) speakV2(conn *websocket.Conn, addr string) error {
	session := c.beginV2(conn, addr)
	defer session.close()
	defer session.ask(conn)()
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		f, ok := frameOf(message)
		if !ok {
			c.check.breach("client %s got what is no frame: %.100q", c.name, message)
			continue
		}
		session.hears(f, c.hadVersion(f))
		c.act(f)
	}
}

// hadVersion returns what the client has of a frame's key, if it is of the version
// that the frame says.
func (c *client) hadVersion(f frame) row {
	if k := f.Key; c.has.versions[k] == f.Version && f.Version != "" {
		return c.has.rows[k]
	}
	return row{}
}

func (c *client) act(f frame) {
	k := f.Key
	switch f.Action {
	case "update":
		var r row
		if len(f.Rows) != 1 || json.Unmarshal(f.Rows[0], &r) != nil {
			return // the checker has said so
		}
		if r.For != c.has.identity {
			c.has = memory{r.For, make(map[shared.EntityKey]row), make(map[shared.EntityKey]string)}
		}
		c.has.rows[k], c.has.versions[k] = r, f.Version
		if c.onRow != nil {
			c.onRow(r)
		}
	case "delete", "unsubscribed":
		delete(c.has.rows, k)
		delete(c.has.versions, k)
	case "expiring":
		if c.onExpiring != nil {
			c.onExpiring()
		}
	}
}

// beginV2 says who the client is, every other time who it was before, and
// subscribes to all it watches.
func (c *client) beginV2(conn *websocket.Conn, addr string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	c.session = c.check.openV2(c.watcher, addr)
	var versions map[shared.EntityKey]string
	if c.has.identity != "" && userOf(c.has.identity) == c.user && c.random.IntN(2) == 0 {
		versions = c.has.versions
		c.sayAsV2Locked(c.has.identity)
	} else {
		c.sayV2Locked()
	}
	_ = c.subscribeV2Locked(versions) // what fails here fails again at once
	return c.session
}

func (c *client) sayV2Locked() { c.sayAsV2Locked(c.nextLocked()) }

func (c *client) sayAsV2Locked(identity string) {
	_ = c.requestLocked(&request{action: shared.ActionSecret, identity: identity}, func(ref int) []byte { return wire.SecretRequest(ref, secretOf(identity)) })
}

// subscribeV2Locked subscribes to all keys, a list at a time; versions are those of
// what the client has.
func (c *client) subscribeV2Locked(versions map[shared.EntityKey]string) (err error) {
	for some := range slices.Chunk(c.keys, listOf) {
		err = firstError(err, c.keysLocked(shared.ActionSubscribe, some, versions))
	}
	return err
}

// unsubscribe ends the subscription to some keys on the v2 wire.
func (c *client) unsubscribe(keys ...shared.EntityKey) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keysLocked(shared.ActionUnsubscribe, keys, nil)
}

func (c *client) keysLocked(action shared.Action, keys []shared.EntityKey, versions map[shared.EntityKey]string) error {
	r := &request{action: action, keys: make(map[shared.EntityKey]bool, len(keys))}
	var list [][]byte
	for _, k := range keys {
		list = append(list, wire.KeyText(wire.Key{EntityKey: k, Version: versions[k]}))
		r.keys[k] = true
	}
	return c.requestLocked(r, func(ref int) []byte { return wire.KeysRequest(wire.Action(action), ref, list) })
}

// requestLocked sends a request, of which the checker hears first.
func (c *client) requestLocked(r *request, message func(ref int) []byte) error {
	if c.session == nil {
		return nil
	}
	c.refs++
	r.ref = c.refs
	c.session.asks(r)
	return c.conn.WriteMessage(websocket.TextMessage, message(r.ref))
}
