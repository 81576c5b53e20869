package wire

import (
	"encoding/json"
	"errors"

	"github.com/entity-sync/entity-sync/shared"
)

// Code says what was wrong with a request. The list is closed.
type Code string

// The codes.
const (
	CodeBadJSON         Code = "bad_json"
	CodeBadMessage      Code = "bad_message"
	CodeUnknownAction   Code = "unknown_action"
	CodeUnknownEntity   Code = "unknown_entity"
	CodeBadKey          Code = "bad_key"
	CodeForbidden       Code = "forbidden"
	CodeUnauthenticated Code = "unauthenticated"
	CodeTooMany         Code = "too_many_subscriptions"
	CodeRateLimited     Code = "rate_limited"
	CodeUnavailable     Code = "unavailable"
	CodeBadTopic        Code = "bad_topic"
	CodeUnknownTopic    Code = "unknown_topic"
	CodeBadEvent        Code = "bad_event"
	CodeTooLarge        Code = "too_large"
)

// Refusal is an error that is sent to the client.
type Refusal struct {
	Code    Code
	Message string
	Ref     json.RawMessage   // of the request, if it had one
	Cause   error             // for the log; the client is not told it
	Key     *shared.EntityKey // the key that it is about, if any
	Topic   shared.Topic      // the topic that it is about, if any
	Index   *int              // of the key or topic in the request, if the key or topic itself is malformed
}

// Error implements error.
func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Message }

// Reply returns the reply to the client.
func (r *Refusal) Reply() Reply {
	reply := Reply{Action: ActionError, Ref: r.Ref, Index: r.Index, Topic: r.Topic, Code: r.Code, Message: r.Message}
	if r.Key != nil {
		reply.Key = *r.Key
	}
	return reply
}

// WithRef returns the refusal with the ref of its request.
func (r *Refusal) WithRef(ref json.RawMessage) *Refusal {
	with := *r
	with.Ref = ref
	return &with
}

// About returns the refusal with its key, the index-th of its request. A malformed key may be
// as long as the whole message, so only its index is sent back.
func (r *Refusal) About(index int, key shared.EntityKey) *Refusal {
	about := *r
	if about.Code == CodeBadKey {
		about.Index = &index
	} else {
		about.Key = &key
	}
	return &about
}

// AboutTopic is About for a topic.
func (r *Refusal) AboutTopic(index int, topic shared.Topic) *Refusal {
	about := *r
	if about.Code == CodeBadTopic {
		about.Index = &index
	} else {
		about.Topic = topic
	}
	return &about
}

// AboutTarget is About for a key or a topic.
func (r *Refusal) AboutTarget(index int, t Target) *Refusal {
	if t.IsTopic {
		return r.AboutTopic(index, t.Topic)
	}
	return r.About(index, t.EntityKey)
}

// RefusalOf returns what the client is told of an error. It tells nothing of an error that is
// the server's own.
func RefusalOf(err error) *Refusal {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, shared.ErrBadKey):
		return &Refusal{Code: CodeBadKey, Message: "a key is an entity type and an id of 1 to 255 bytes without control characters"}
	case errors.Is(err, shared.ErrUnknownEntity):
		return &Refusal{Code: CodeUnknownEntity, Message: "no such entity type"}
	case errors.Is(err, shared.ErrBadTopic):
		return &Refusal{Code: CodeBadTopic, Message: "a topic is 1 to 16 segments with dots between them, 255 bytes together, without control characters"}
	case errors.Is(err, shared.ErrUnknownTopic):
		return &Refusal{Code: CodeUnknownTopic, Message: "no such channel"}
	case errors.Is(err, shared.ErrBadEvent):
		return &Refusal{Code: CodeBadEvent, Message: "an event is a CloudEvent 1.0: an object with specversion, id, source and type, and no member twice"}
	case errors.Is(err, shared.ErrTooLarge):
		return &Refusal{Code: CodeTooLarge, Message: "an event has 32 KiB at most"}
	case errors.Is(err, shared.ErrTooManySubscriptions):
		return &Refusal{Code: CodeTooMany, Message: "too many subscriptions"}
	case errors.Is(err, shared.ErrForbidden):
		return &Refusal{Code: CodeForbidden, Message: "this is not allowed"}
	case errors.Is(err, shared.ErrUnauthenticated):
		return &Refusal{Code: CodeUnauthenticated, Message: "a valid secret is needed for this"}
	default:
		return &Refusal{Code: CodeUnavailable, Message: "this cannot be done now", Cause: err}
	}
}
