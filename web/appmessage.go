package web

import (
	"errors"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/sendqueue"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
	"github.com/entity-sync/entity-sync/web/wire"
)

// Session is a client, for messages of the application's own. It may be kept, used from any
// goroutine, and compared.
type Session struct{ s *session }

// Secret returns the secret with which the client's rows are fetched now.
func (s Session) Secret() string { return s.s.getSecret() }

// Remote returns the client's address.
func (s Session) Remote() string { return s.s.remote }

var errNotText = errors.New("web: a message must be UTF-8 text")

// Send sends a text message, in the order of the calls. It waits while 256 messages or
// 1 MiB are waiting to be written to the client, and returns shared.ErrClosed when the
// client is gone. It does not wait for the client to have read it.
func (s Session) Send(message []byte) error {
	if !utf8.Valid(message) {
		return errNotText
	}
	if !s.s.out.Send(websocket.AppendText(nil, message), sendqueue.MaxOrdered) {
		return shared.ErrClosed
	}
	return nil
}

// Close ends the session once the waiting messages are written. The code is one that
// applications may send: 1000, or 4000 to 4999; docs/protocol.md lists those that have a
// meaning here. The reason has at most 123 bytes.
func (s Session) Close(code int, reason string) error {
	if code != wire.CloseNormal && (code < 4000 || code > 4999) {
		return errors.New("web: an application may close with 1000, or 4000 to 4999")
	}
	const maxReason = 123 // RFC 6455: a control frame has 125 bytes, two of them the code
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return errors.New("web: a reason is at most 123 bytes of UTF-8")
	}
	s.s.closeGracefully(code, reason)
	return nil
}

// appMessage hands the application a message of its own. It returns false if the application
// takes none.
func (s *session) appMessage(message []byte) bool {
	c := &s.handler.config
	switch {
	case c.OnMessage != nil:
		c.OnMessage(Session{s}, message)
	case c.PassThrough != nil:
		c.PassThrough(s.getSecret(), message)
	default:
		return false
	}
	return true
}
