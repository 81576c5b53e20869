package shared

import "errors"

var (
	// ErrNotFound is for a fetch handler to return: the key has no row.
	ErrNotFound = errors.New("entity not found")

	// ErrForbidden is for a fetch handler to return: this secret may not see the key.
	ErrForbidden = errors.New("entity forbidden")

	// ErrUnauthenticated is returned to a client that must send a secret first. An application
	// returns it for credentials that are not valid.
	ErrUnauthenticated = errors.New("unauthenticated")

	// ErrBadEntity is returned for an entity type that cannot name a topic.
	ErrBadEntity = errors.New("bad entity type")

	// ErrBadKey is returned for an entity key that is malformed.
	ErrBadKey = errors.New("bad entity key")

	// ErrUnknownEntity is returned for a key whose entity type was never registered.
	ErrUnknownEntity = errors.New("unknown entity type")

	// ErrDuplicateEntity is returned when an entity type is registered again.
	ErrDuplicateEntity = errors.New("entity type already registered")

	// ErrBadTopic is returned for a topic that is malformed.
	ErrBadTopic = errors.New("bad topic")

	// ErrUnknownTopic is returned for a topic of a channel that was never registered.
	ErrUnknownTopic = errors.New("unknown topic")

	// ErrBadEvent is returned for an event that is no CloudEvent.
	ErrBadEvent = errors.New("bad event")

	// ErrTooLarge is returned for an event of more than MaxEventBytes.
	ErrTooLarge = errors.New("too large")

	// ErrDuplicateChannel is returned when a channel is registered again.
	ErrDuplicateChannel = errors.New("channel already registered")

	// ErrTooManySubscriptions is returned to a client at its limit.
	ErrTooManySubscriptions = errors.New("too many subscriptions")

	// ErrUnavailable is returned when no bus broker took a notification in time. The
	// notification may have got through all the same. It is safe to notify again.
	ErrUnavailable = errors.New("bus unavailable")

	// ErrClosed is returned by calls on something that was closed.
	ErrClosed = errors.New("closed")
)

// NotAnnouncedError is the error of a call of Notify that has not announced all of its keys.
// Its text is that of Err.
type NotAnnouncedError struct {
	// Keys are the keys that no broker had acknowledged when the call returned. Call Notify
	// again with them: the other keys were announced.
	Keys []EntityKey

	// Err is the cause.
	Err error
}

func (e *NotAnnouncedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NotAnnouncedError) Unwrap() error { return e.Err }
