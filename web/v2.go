package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
)

// SubprotocolV2 is what a client asks for, in the header Sec-WebSocket-Protocol,
// to speak the v2 wire. docs/protocol.md describes it.
const SubprotocolV2 = "entity-sync.v2"

// v2Wire says of everything what it is about: rows come with their key and
// version, requests are acknowledged, refusals have a code.
type v2Wire struct{}

var _ codec = v2Wire{}

// code says what was wrong with a request. The list is closed.
type code string

const (
	codeBadJSON         code = "bad_json"
	codeBadMessage      code = "bad_message"
	codeUnknownAction   code = "unknown_action"
	codeUnknownEntity   code = "unknown_entity"
	codeBadKey          code = "bad_key"
	codeForbidden       code = "forbidden"
	codeUnauthenticated code = "unauthenticated"
	codeTooMany         code = "too_many_subscriptions"
	codeRateLimited     code = "rate_limited"
	codeUnavailable     code = "unavailable"
)

// refusal is an error that the client is told.
type refusal struct {
	code    code
	message string
	ref     json.RawMessage   // of the request, if it had one
	cause   error             // for the log, where the client is not told
	key     *shared.EntityKey // what it is about, if it is about one
	index   *int              // of the key in the request, where the key itself is malformed
}

func (r *refusal) Error() string { return string(r.code) + ": " + r.message }

// A frame from the server. Which fields are there depends on the action.
type v2Frame struct {
	Action string          `json:"action"`
	Ref    json.RawMessage `json:"ref,omitempty"`
	Body   *v2Body         `json:"body,omitempty"`
}

type v2Body struct {
	Entity  shared.EntityType `json:"entity,omitempty"`
	ID      string            `json:"id,omitempty"`
	Index   *int              `json:"index,omitempty"`
	Version string            `json:"version,omitempty"`
	Code    code              `json:"code,omitempty"`
	Message string            `json:"message,omitempty"`
	Seconds int               `json:"seconds,omitempty"`
	Rows    []json.RawMessage `json:"rows,omitempty"`
}

func (f v2Frame) encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(f); err != nil {
		// Nothing in it can fail to be encoded: rows are checked, refs are the client's JSON.
		return nil
	}
	return appendFrame(nil, websocket.TextMessage, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// Encode implements codec. Frames with rows, which are made for every change, are
// written by hand: it takes a quarter of the time that reflection does.
func (v2Wire) Encode(u *bridge.Update) []byte {
	body := &v2Body{Entity: u.Key.Entity, ID: u.Key.ID}
	switch u.Kind {
	case bridge.KindRows:
		return encodeRows(u)
	case bridge.KindCurrent:
		body.Version = u.Version.String()
		return v2Frame{Action: "current", Body: body}.encode()
	case bridge.KindDeleted:
		return v2Frame{Action: "delete", Body: body}.encode()
	case bridge.KindForbidden:
		body.Code, body.Message = codeForbidden, "this secret may not see it"
		return v2Frame{Action: "unsubscribed", Body: body}.encode()
	default:
		return nil
	}
}

// encodeRows returns the frame that an encoded v2Frame would be, but with the rows
// as they are.
func encodeRows(u *bridge.Update) []byte {
	const around = 128 // bytes, besides the key and the rows
	b := make([]byte, maxHead, maxHead+around+len(u.Key.Entity)+2*len(u.Key.ID)+u.Bytes()+len(u.Rows))
	b = append(b, `{"action":"update","body":{"entity":`...)
	b = appendString(b, string(u.Key.Entity))
	b = append(b, `,"id":`...)
	b = appendString(b, u.Key.ID)
	b = append(b, `,"version":"`...)
	b = u.Version.Append(b)
	b = append(b, '"')
	for i, row := range u.Rows {
		if i == 0 {
			b = append(b, `,"rows":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, asJSON(row)...)
	}
	if len(u.Rows) > 0 {
		b = append(b, ']')
	}
	return frameAround(append(b, "}}"...), websocket.TextMessage)
}

// appendString appends s as JSON.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string can always be encoded
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// asJSON returns a row as it is, or as a JSON string if it is some other text.
func asJSON(row []byte) json.RawMessage {
	if json.Valid(row) {
		return row
	}
	quoted, err := json.Marshal(string(row))
	if err != nil { // a string can always be encoded
		return json.RawMessage("null")
	}
	return quoted
}

// freshness implements codec.
func (v2Wire) freshness(fresh bool) []byte {
	if fresh {
		return v2Frame{Action: "fresh"}.encode()
	}
	return v2Frame{Action: "stale"}.encode()
}

// expiring implements codec.
func (v2Wire) expiring(in time.Duration) []byte {
	return v2Frame{Action: "expiring", Body: &v2Body{Seconds: max(1, int(in.Seconds()))}}.encode()
}

// answer implements codec.
func (v2Wire) answer(s *session, err error) {
	s.out.sendDirect(errorFrame(refusalOf(err)).encode())
}

func errorFrame(r *refusal) v2Frame {
	body := &v2Body{Code: r.code, Message: r.message, Index: r.index}
	if r.key != nil {
		body.Entity, body.ID = r.key.Entity, r.key.ID
	}
	return v2Frame{Action: "error", Ref: r.ref, Body: body}
}

// unsubscribed implements codec.
func (v2Wire) unsubscribed(s *session, key shared.EntityKey, why error) {
	r := refusalOf(why)
	body := &v2Body{Entity: key.Entity, ID: key.ID, Code: r.code, Message: r.message}
	s.out.sendDirect(v2Frame{Action: "unsubscribed", Body: body}.encode())
}

// refusalOf says what the client is told of an error; nothing of one that is the
// server's own.
func refusalOf(err error) *refusal {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, shared.ErrBadKey):
		return &refusal{code: codeBadKey, message: "a key is an entity type and an id of 1 to 255 bytes without control characters"}
	case errors.Is(err, shared.ErrUnknownEntity):
		return &refusal{code: codeUnknownEntity, message: "no such entity type"}
	case errors.Is(err, shared.ErrTooManySubscriptions):
		return &refusal{code: codeTooMany, message: "too many subscriptions"}
	case errors.Is(err, shared.ErrForbidden):
		return &refusal{code: codeForbidden, message: "this is not allowed"}
	case errors.Is(err, shared.ErrUnauthenticated):
		return &refusal{code: codeUnauthenticated, message: "a valid secret is needed for this"}
	default:
		return &refusal{code: codeUnavailable, message: "this cannot be done now", cause: err}
	}
}

// receive implements codec.
func (w v2Wire) receive(s *session, message []byte) error {
	r, err := readRequest(message)
	if err == nil {
		err = w.act(s, r, message)
	}
	if err != nil && r.ref != nil {
		return withRef(err, r.ref)
	}
	return err
}

// aboutKey names the key that an error is about. A malformed one may be as long as
// the whole message: its index in the list says which it was.
func aboutKey(err error, index int, key shared.EntityKey) *refusal {
	r := *refusalOf(err)
	if r.code == codeBadKey {
		r.index = &index
	} else {
		r.key = &key
	}
	return &r
}

func withRef(err error, ref json.RawMessage) *refusal {
	r := *refusalOf(err)
	r.ref = ref
	return &r
}

func (w v2Wire) act(s *session, r request, message []byte) error {
	switch {
	case r.action == "" && s.own(message):
		return nil
	case r.badRef:
		return &refusal{code: codeBadMessage, message: "a ref is a string or a number of at most 128 bytes"}
	}
	switch r.action {
	case shared.ActionSecret:
		secret, err := readSecret(r.body, s.handler.config.MaxSecretBytes)
		if err != nil {
			return err
		}
		id, err := s.verify(secret)
		if err != nil {
			return err
		}
		s.reauthorize(id)
		s.out.hold()
		defer s.out.release()
		s.become(id)
		w.acknowledge(s, r)
	case shared.ActionSubscribe, shared.ActionUnSubscribe:
		keys, err := readKeys(r.body)
		if err != nil {
			return err
		}
		w.change(s, r, keys)
		return nil
	case "":
		return &refusal{code: codeBadMessage, message: "there is no action"}
	default:
		return &refusal{code: codeUnknownAction, message: "actions are secret, subscribe and unsubscribe"}
	}
	return nil
}

func (v2Wire) acknowledge(s *session, r request) {
	s.out.sendDirect(v2Frame{Action: "ack", Ref: r.ref}.encode())
}

// change subscribes or unsubscribes keys. Each that cannot be is refused by
// itself; then all is acknowledged.
func (w v2Wire) change(s *session, r request, keys []requestKey) {
	errs := make([]error, len(keys))
	for i, k := range keys {
		if r.action == shared.ActionSubscribe {
			errs[i] = s.permit(k.EntityKey) // may take its time: the application is asked
		} else if !s.keepPace(&s.subscribes, "keys") {
			return
		}
	}
	s.out.hold()
	defer s.out.release()
	for i, k := range keys {
		if errs[i] == nil {
			errs[i] = w.one(s, r.action, k)
		}
		if errs[i] != nil {
			s.refuse(withRef(aboutKey(errs[i], i, k.EntityKey), r.ref))
		}
	}
	w.acknowledge(s, r)
}

func (v2Wire) one(s *session, action shared.Action, k requestKey) error {
	if action == shared.ActionUnSubscribe {
		s.client.Unsubscribe(k.EntityKey)
		return nil
	}
	o := bridge.SubscribeOptions{Snapshot: k.snapshot}
	// What is no version of ours is one that the rows do not have.
	o.Version, _ = bridge.ParseVersion(k.version)
	err := s.client.Subscribe(k.EntityKey, o)
	if err == nil {
		s.traceSubscribed(k.Entity, o.Snapshot)
	}
	return err
}
