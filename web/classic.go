package web

import (
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/shared"
)

// classicWire is spoken by clients that ask for no subprotocol: each row is one
// text frame, as the fetch handler wrote it, and the server sends nothing else.
type classicWire struct{}

var _ codec = classicWire{}

// Encode implements codec. A key without rows says nothing on this wire.
func (classicWire) Encode(u *bridge.Update) []byte {
	const head = 10 // of the largest frame
	size := 0
	for _, row := range u.Rows {
		size += head + len(row)
	}
	frames := make([]byte, 0, size)
	for _, row := range u.Rows {
		frames = appendFrame(frames, websocket.TextMessage, row)
	}
	return frames
}

// The classic wire has no words for any of this.

func (classicWire) freshness(bool) []byte         { return nil }
func (classicWire) expiring(time.Duration) []byte { return nil }
func (classicWire) answer(*session, error)        {}

func (classicWire) unsubscribed(*session, shared.EntityKey, error) {}

var errNoSuchThing = &refusal{code: codeUnknownAction, message: "there is no such action"}

// receive implements codec.
func (classicWire) receive(s *session, message []byte) error {
	r, err := readRequest(message)
	switch {
	case errors.Is(err, errNotJSON):
		return err
	case !exactjson.IsObject(message):
		s.own(message)
		return nil
	case err != nil:
		return err
	}
	switch r.action {
	case "":
		s.own(message)
		return nil
	case shared.ActionSecret:
		return receiveSecret(s, r.body)
	case shared.ActionSubscribe, shared.ActionUnSubscribe:
		return receiveKey(s, r.action, r.body)
	default:
		return errNoSuchThing
	}
}

func receiveSecret(s *session, body []byte) error {
	secret, err := readSecret(body, s.handler.config.MaxSecretBytes)
	if err != nil {
		return err
	}
	id, err := s.verify(secret)
	if err != nil {
		return err
	}
	s.reauthorize(id)
	s.become(id)
	return nil
}

func receiveKey(s *session, action shared.Action, body []byte) error {
	k, err := readKey(body, keyNames[:3], false)
	if err != nil {
		return err
	}
	if action == shared.ActionUnSubscribe {
		s.client.Unsubscribe(k.EntityKey)
		return nil
	}
	o := bridge.SubscribeOptions{Snapshot: k.snapshot || s.handler.config.Snapshot}
	err = s.permit(k.EntityKey)
	if err == nil {
		err = s.client.Subscribe(k.EntityKey, o)
	}
	if err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	s.traceSubscribed(k.Entity, o.Snapshot)
	return nil
}
