package web

import (
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
)

// codecFor returns the wire of a subprotocol that was agreed on.
func codecFor(subprotocol string) codec {
	if subprotocol == SubprotocolV2 {
		return v2Wire{}
	}
	return classicWire{}
}

// codec is one wire: it reads what a client sends and encodes what it is sent.
// Sessions know nothing of either, so adding a wire is adding a codec.
type codec interface {
	// Encode returns an update as complete WebSocket frames.
	bridge.Encoder

	// freshness returns the frame that says whether the node can vouch for what
	// it has sent, or nil to say nothing.
	freshness(fresh bool) []byte

	// expiring returns the frame that says when the client's secret will not do
	// any more, or nil to say nothing.
	expiring(in time.Duration) []byte

	// unsubscribed tells the client that its subscription has ended, where the
	// wire has a way to.
	unsubscribed(s *session, key shared.EntityKey, why error)

	// receive acts on one text message. An error says what was wrong with it;
	// the session goes on.
	receive(s *session, message []byte) error

	// answer tells the client of such an error, where the wire has a way to.
	answer(s *session, err error)
}
