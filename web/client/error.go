package client

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

var (
	// ErrBadRequest says that the server could not make sense of a message.
	ErrBadRequest = errors.New("bad request")

	// ErrUnavailable says that the server cannot do it now. The Client tries again.
	ErrUnavailable = errors.New("unavailable")

	// ErrRateLimited says that the client sends faster than the server takes.
	ErrRateLimited = errors.New("rate limited")

	// ErrRevoked says that the server's application has withdrawn the secret.
	ErrRevoked = errors.New("secret revoked")

	// ErrExpired says that the secret has expired.
	ErrExpired = errors.New("secret expired")

	// ErrTooLarge says that the rows of a key are larger than Options.MaxUpdateBytes.
	ErrTooLarge = errors.New("larger than Options.MaxUpdateBytes")

	// ErrOffline is returned by Send while there is no connection.
	ErrOffline = errors.New("not connected")

	// ErrPending says that nothing is known of a key yet.
	ErrPending = errors.New("nothing known yet")
)

// Error is a refusal in the server's words. errors.Is finds the error that the code stands
// for:
//
//	forbidden               shared.ErrForbidden
//	unauthenticated         shared.ErrUnauthenticated
//	unknown_entity          shared.ErrUnknownEntity
//	bad_key                 shared.ErrBadKey
//	unknown_topic           shared.ErrUnknownTopic
//	bad_topic               shared.ErrBadTopic
//	bad_event               shared.ErrBadEvent
//	too_large               shared.ErrTooLarge
//	too_many_subscriptions  shared.ErrTooManySubscriptions
//	unavailable             ErrUnavailable
//	rate_limited            ErrRateLimited
//	bad_json, bad_message,
//	unknown_action          ErrBadRequest
type Error struct {
	Code    string // see docs/protocol.md
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Unwrap returns the error that the code stands for, nil if the code is not known.
func (e *Error) Unwrap() error { return meanings[e.Code] }

var meanings = map[string]error{
	string(wire.CodeForbidden):       shared.ErrForbidden,
	string(wire.CodeUnauthenticated): shared.ErrUnauthenticated,
	string(wire.CodeUnknownEntity):   shared.ErrUnknownEntity,
	string(wire.CodeBadKey):          shared.ErrBadKey,
	string(wire.CodeUnknownTopic):    shared.ErrUnknownTopic,
	string(wire.CodeBadTopic):        shared.ErrBadTopic,
	string(wire.CodeBadEvent):        shared.ErrBadEvent,
	string(wire.CodeTooLarge):        shared.ErrTooLarge,
	string(wire.CodeTooMany):         shared.ErrTooManySubscriptions,
	string(wire.CodeUnavailable):     ErrUnavailable,
	string(wire.CodeRateLimited):     ErrRateLimited,
	string(wire.CodeBadJSON):         ErrBadRequest,
	string(wire.CodeBadMessage):      ErrBadRequest,
	string(wire.CodeUnknownAction):   ErrBadRequest,
}

// errorOf returns the refusal in a reply, nil if the reply refuses nothing.
func errorOf(r wire.Reply) *Error {
	if r.Code == "" {
		return nil
	}
	return &Error{string(r.Code), r.Message}
}

var errNotV2 = fmt.Errorf("the server does not speak %s", wire.SubprotocolV2)

func secretTooLong(maxBytes int) error {
	return fmt.Errorf("the secret has more than %d bytes", maxBytes)
}

// refusedSecret says that the server refused the secret after a connect.
type refusedSecret struct{ why *Error }

func (e refusedSecret) Error() string { return "the secret was refused: " + e.why.Error() }
func (e refusedSecret) Unwrap() error { return e.why }

// refusedUpgrade is the server's answer to a request that it did not upgrade.
type refusedUpgrade struct {
	status     int
	retryAfter time.Duration
}

func (e *refusedUpgrade) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.status, http.StatusText(e.status))
}

func (e *refusedUpgrade) Unwrap() error {
	switch e.status {
	case http.StatusUnauthorized:
		return shared.ErrUnauthenticated
	case http.StatusForbidden:
		return shared.ErrForbidden
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return ErrUnavailable
	default:
		return nil
	}
}

// farewell is the close code with which the server ended the connection.
type farewell struct{ *websocket.CloseError }

func (e farewell) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("the server closed the connection with code %d", e.Code)
	}
	return fmt.Sprintf("the server closed the connection with code %d: %s", e.Code, e.Text)
}

func (e farewell) Unwrap() []error {
	switch e.Code {
	case wire.CloseRevoked:
		return []error{ErrRevoked, e.CloseError}
	case wire.CloseExpired:
		return []error{ErrExpired, e.CloseError}
	case wire.CloseUnauthenticated:
		return []error{shared.ErrUnauthenticated, e.CloseError}
	default:
		return []error{e.CloseError}
	}
}

// callbackError is an error of SecretFunc or Header.
type callbackError struct {
	name string
	err  error
}

func (e *callbackError) Error() string { return e.name + ": " + e.err.Error() }
func (e *callbackError) Unwrap() error { return e.err }

// loggable returns err in a form that may be logged: an error of the application's own may
// quote a secret.
func loggable(err error) error {
	var own *callbackError
	if errors.As(err, &own) {
		return fmt.Errorf("%s failed with a %T", own.name, own.err)
	}
	return err
}
