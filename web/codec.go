package web

import "github.com/entity-sync/entity-sync/bridge"

// codec is one wire: it reads what a client sends and encodes what it is sent.
// Sessions know nothing of either, so adding a wire is adding a codec.
type codec interface {
	// Encode returns an update as complete WebSocket frames.
	bridge.Encoder

	// receive acts on one text message. An error says what was wrong with it;
	// the session goes on.
	receive(s *session, message []byte) error
}
