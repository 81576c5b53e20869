package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
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

var (
	errNotJSON     = &refusal{code: codeBadJSON, message: "the message is not JSON"}
	errBadAction   = &refusal{code: codeBadMessage, message: "the action is not a string"}
	errBadSecret   = &refusal{code: codeBadMessage, message: "the body of a secret is a string of at most 4,096 bytes"}
	errBadBody     = &refusal{code: codeBadMessage, message: "the body is not an object with an entity and an id, both strings"}
	errNoSuchThing = &refusal{code: codeUnknownAction, message: "there is no such action"}
)

// receive implements codec.
func (classicWire) receive(s *session, message []byte) error {
	var m shared.Message
	err := parse(message, &m)
	switch {
	case errors.Is(err, errNotJSON):
		return err
	case !isObject(message):
		s.own(message)
		return nil
	case err != nil:
		return errBadAction
	}
	switch m.Action {
	case "":
		s.own(message)
		return nil
	case shared.ActionSecret:
		return receiveSecret(s, m.Body)
	case shared.ActionSubscribe, shared.ActionUnSubscribe:
		return receiveKey(s, m.Action, m.Body)
	default:
		return errNoSuchThing
	}
}

// parse reads a message into m. It returns errNotJSON where the message is no JSON,
// and another error where it is not what m can hold. To ask [json.Valid] first would
// be to look at each message, however large, once more.
func parse(message []byte, m any) error {
	err := json.Unmarshal(message, m)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return errNotJSON
	}
	return err
}

func isObject(message []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(message, " \t\r\n"), []byte("{"))
}

func receiveSecret(s *session, body json.RawMessage) error {
	secret, err := parseSecret(body)
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

func parseSecret(body json.RawMessage) (string, error) {
	var secret *string
	if err := json.Unmarshal(body, &secret); err != nil || secret == nil || len(*secret) > maxSecretBytes {
		return "", errBadSecret
	}
	return *secret, nil
}

func receiveKey(s *session, action shared.Action, body json.RawMessage) error {
	var k struct {
		shared.EntityKey
		Snapshot bool `json:"snapshot"`
	}
	if err := json.Unmarshal(body, &k); err != nil {
		return errBadBody
	}
	if action == shared.ActionUnSubscribe {
		s.client.Unsubscribe(k.EntityKey)
		return nil
	}
	o := bridge.SubscribeOptions{Snapshot: k.Snapshot || s.handler.config.Snapshot}
	err := s.permit(k.EntityKey)
	if err == nil {
		err = s.client.Subscribe(k.EntityKey, o)
	}
	if err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	s.traceSubscribed(k.Entity, o.Snapshot)
	return nil
}
