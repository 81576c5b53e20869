package shared

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/internal/exactjson"
)

const (
	// MaxEventBytes bounds one event, as JSON without white space.
	MaxEventBytes = 32 << 10

	// MaxEventTopics bounds the topics that one event is published to.
	MaxEventTopics = 16
)

// Event is a CloudEvent in version 1.0 of the specification and in its JSON format, kept as it
// came: every member, in its order. The zero Event is none.
//
// Specification: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
type Event struct{ parsed *parsedEvent }

// parsedEvent is never changed once it is parsed.
type parsedEvent struct {
	id, source, kind string
	time             time.Time
	json             []byte // without white space
}

// ParseEvent reads an event. It returns an error wrapping ErrBadEvent unless the text is a JSON
// object with the members specversion ("1.0"), id, source and type, none of them empty, and no
// member twice; and one wrapping ErrTooLarge for more than MaxEventBytes.
//
// A time is a text as in RFC 3339. A whole number of seconds since 1970, which some programs
// write, is read as well, and handed on as RFC 3339. The values of members that are not in the
// specification may be of any kind.
func ParseEvent(text []byte) (Event, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil || !utf8.Valid(text) { // a browser ends a connection with other text
		return Event{}, badEvent("it is not JSON in UTF-8")
	}
	if b.Len() > MaxEventBytes {
		return Event{}, fmt.Errorf("%w: the event has %d bytes, the limit is %d", ErrTooLarge, b.Len(), MaxEventBytes)
	}
	e := &parsedEvent{json: b.Bytes()}
	if !exactjson.IsObject(e.json) {
		return Event{}, badEvent("it is not an object")
	}
	if err := e.read(); err != nil {
		return Event{}, err
	}
	return Event{e}, nil
}

func badEvent(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBadEvent}, args...)...)
}

// eventNames are the members that mean something here.
var eventNames = []string{"specversion", "id", "source", "type", "time", "data", "data_base64", "datacontenttype", "dataschema", "subject"}

func (e *parsedEvent) read() error {
	seen := make(map[string]struct{})
	for quoted := range exactjson.Members(e.json) {
		name := exactjson.Name(quoted)
		if _, doubled := seen[name]; doubled {
			return badEvent("%.40q is there twice", name)
		}
		seen[name] = struct{}{}
	}
	var in [10]exactjson.Member
	exactjson.Read(e.json, eventNames, in[:])
	for i := range in {
		if in[i].Ambiguous {
			return badEvent("%q is there in another case", eventNames[i])
		}
	}
	var version string
	for i, to := range []*string{&version, &e.id, &e.source, &e.kind} {
		var err error
		if *to, err = exactjson.String(in[i].Value); err != nil || *to == "" {
			return badEvent("%s is to be a text that is not empty", eventNames[i])
		}
	}
	if version != "1.0" {
		return badEvent(`specversion is %.20q, and is to be "1.0"`, version)
	}
	for i := 7; i < len(in); i++ {
		if text, err := exactjson.String(in[i].Value); err != nil || in[i].Has() && text == "" {
			return badEvent("%s is to be a text that is not empty", eventNames[i])
		}
	}
	if err := checkData(&in[5], &in[6]); err != nil {
		return err
	}
	return e.readTime(&in[4])
}

func checkData(data, binary *exactjson.Member) error {
	if !binary.Has() {
		return nil
	}
	if data.Has() {
		return badEvent("data and data_base64 are both there")
	}
	text, err := exactjson.String(binary.Value)
	if err == nil {
		_, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil {
		return badEvent("data_base64 is not base64")
	}
	return nil
}

// latest is the last second that RFC 3339 has a text for.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

func (e *parsedEvent) readTime(m *exactjson.Member) (err error) {
	if !m.Has() {
		return nil
	}
	if text, err := exactjson.String(m.Value); err == nil {
		if e.time, err = time.Parse(time.RFC3339Nano, text); err == nil && isStrictTime(text) {
			return nil
		}
	} else if seconds, err := strconv.ParseInt(string(m.Value), 10, 64); err == nil && seconds >= 0 && seconds <= latest.Unix() {
		e.time = time.Unix(seconds, 0).UTC()
		e.replace("time", e.time.Format(`"`+time.RFC3339+`"`))
		return nil
	}
	return badEvent("time is to be a text as in RFC 3339")
}

// isStrictTime reports whether RFC 3339 allows a text that time.Parse has read. Parse also takes an
// hour of one digit, a comma before the fraction, and an offset of 24 hours or of 60 minutes.
func isStrictTime(text string) bool {
	offset := text[len(text)-len("00:00"):]
	return text[len("2006-01-02T15")] == ':' && !strings.Contains(text, ",") && !strings.HasPrefix(offset, "24:") && !strings.HasSuffix(offset, ":60")
}

// replace gives a member another value.
func (e *parsedEvent) replace(name, with string) {
	text := make([]byte, 0, len(e.json)+len(with))
	before := byte('{')
	for quoted, value := range exactjson.Members(e.json) {
		text = append(append(text, before), quoted...)
		text = append(text, ':')
		if exactjson.Name(quoted) == name {
			text = append(text, with...)
		} else {
			text = append(text, value...)
		}
		before = ','
	}
	text = append(text, '}')
	e.json = text
}

// EventFields is what an event is made of that a program describes by its data alone.
type EventFields struct {
	ID, Source, Type string
	Time             time.Time
	Data             json.RawMessage // nothing for none
}

// NewEvent returns an event with the given fields. Its errors are those of ParseEvent.
func NewEvent(f EventFields) (Event, error) {
	text, err := json.Marshal(struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Time        string          `json:"time"`
		Data        json.RawMessage `json:"data,omitempty"`
	}{"1.0", f.ID, f.Source, f.Type, f.Time.UTC().Format(time.RFC3339Nano), f.Data})
	if err != nil {
		return Event{}, badEvent("its data is not JSON")
	}
	return ParseEvent(text)
}

// IsZero reports whether e is no event.
func (e Event) IsZero() bool { return e.parsed == nil }

// none is what the zero Event says of itself.
var none parsedEvent

func (e Event) get() *parsedEvent {
	if e.parsed == nil {
		return &none
	}
	return e.parsed
}

// ID returns the event's id, which with its source names the event.
func (e Event) ID() string { return e.get().id }

// Source returns where the event is from.
func (e Event) Source() string { return e.get().source }

// Type returns what kind of event it is.
func (e Event) Type() string { return e.get().kind }

// Time returns when it happened, the zero Time where the event does not say.
func (e Event) Time() time.Time { return e.get().time }

// Data returns the member data, nothing where there is none; it is shared: read only.
func (e Event) Data() json.RawMessage {
	var in [1]exactjson.Member
	if e.parsed != nil {
		exactjson.Read(e.parsed.json, []string{"data"}, in[:])
	}
	return in[0].Value
}

// JSON returns the whole event, without white space between its members, and nothing of the zero
// Event; it is shared: read only.
func (e Event) JSON() []byte { return e.get().json }

// MarshalJSON implements json.Marshaler. The zero Event is null.
func (e Event) MarshalJSON() ([]byte, error) {
	if e.IsZero() {
		return []byte("null"), nil
	}
	return e.parsed.json, nil
}

// UnmarshalJSON implements json.Unmarshaler by ParseEvent.
func (e *Event) UnmarshalJSON(text []byte) (err error) {
	*e, err = ParseEvent(text)
	return err
}
