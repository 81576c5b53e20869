package client

import (
	"cmp"
	"slices"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/web/wire"
)

// request unsubscribes from the keys that nothing watches any more, and subscribes to those in
// the queue.
func (s *session) request() error {
	for _, message := range s.take() {
		if err := s.send(websocket.TextMessage, message); err != nil {
			return err
		}
	}
	return nil
}

// take empties the lists of keys and topics, and returns the messages that unsubscribe and subscribe.
func (s *session) take() (messages [][]byte) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != s {
		return nil // this connection has ended: the next one subscribes
	}
	messages = s.takeTopicsLocked()
	var keys [][]byte
	for _, e := range s.left {
		if len(e.subs) > 0 || c.entries[e.key] != e { // the key is watched again
			continue
		}
		delete(c.entries, e.key)
		if e.asked { // the subscription has not ended by itself
			e.disconnect()
			keys = append(keys, wire.KeyText(wire.Key{EntityKey: e.key}))
		}
	}
	s.left = nil
	if len(keys) > 0 {
		c.reviveLocked(isTooMany)
	}
	for len(keys) > 0 {
		n := wire.Fitting(keys, c.options.MaxMessageBytes)
		s.refs++
		messages = append(messages, wire.KeysRequest(wire.ActionUnsubscribe, s.refs, keys[:n]))
		keys = keys[n:]
	}

	entries := s.wantedLocked()
	for _, e := range entries {
		keys = append(keys, wire.KeyText(wire.Key{EntityKey: e.key, Version: e.known.Version}))
	}
	for len(keys) > 0 {
		n := wire.Fitting(keys, c.options.MaxMessageBytes)
		s.refs++
		s.requests[s.refs] = request{keys: entries[:n]}
		messages = append(messages, wire.KeysRequest(wire.ActionSubscribe, s.refs, keys[:n]))
		keys, entries = keys[n:], entries[n:]
	}
	return messages
}

// wantedLocked empties the queue and returns the keys to subscribe to, marked as asked, in the
// order in which they were first wanted.
func (s *session) wantedLocked() (entries []*entry) {
	for _, e := range s.queue {
		if len(e.subs) > 0 && !e.asked && s.client.entries[e.key] == e {
			e.asked = true
			entries = append(entries, e)
		}
	}
	s.queue = nil
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.number, b.number) })
	return entries
}
