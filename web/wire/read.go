package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/shared"
)

var (
	errNotJSON   = &Refusal{Code: CodeBadJSON, Message: "the message is not JSON"}
	errNoRequest = &Refusal{Code: CodeBadMessage, Message: "a message is an object whose action is a string"}
	errTwoWays   = &Refusal{Code: CodeBadMessage, Message: "a name is there twice, or not in its exact case"}
	errNoAction  = &Refusal{Code: CodeBadMessage, Message: "there is no action"}
	errBadRef    = &Refusal{Code: CodeBadMessage, Message: "a ref is a string or a number of at most 128 bytes"}
	errNoSuch    = &Refusal{Code: CodeUnknownAction, Message: "actions are secret, subscribe, unsubscribe and publish"}
	errBadKeys   = &Refusal{Code: CodeBadMessage, Message: "the body is a key, {\"entity\":…,\"id\":…} with strings, or a list of keys"}
	errBadTarget = &Refusal{Code: CodeBadMessage, Message: "the body is a key, {\"entity\":…,\"id\":…}, or a topic, {\"topic\":…}, or a list of them"}
	errBadPublic = &Refusal{Code: CodeBadMessage, Message: "the body has a topic, which is a string or a list of 1 to 16 strings, and data or an event or neither"}
)

var requestNames = []string{"action", "ref", "body"}

// maxRefBytes bounds the ref that a request may have sent back.
const maxRefBytes = 128

// envelope is a message whose body is still to be read.
type envelope struct {
	action Action          // empty if the message is the application's own
	ref    json.RawMessage // nil if there is none that can be sent back
	body   []byte
	badRef bool
}

// readEnvelope reads a message. A proxy between client and node may read JSON in another way,
// so a request that could be read as another one is refused. An error has the request's ref,
// as far as there is one.
func readEnvelope(message []byte) (e envelope, err error) {
	switch {
	case !json.Valid(message):
		return e, errNotJSON
	case !exactjson.IsObject(message):
		return e, errNoRequest
	}
	var m [3]exactjson.Member
	exactjson.Read(message, requestNames, m[:])
	action, ref, body := m[0], m[1], m[2]
	e.body, e.badRef = body.Value, !isRef(ref.Value)
	if !e.badRef && !ref.Ambiguous {
		e.ref = ref.Value
	}
	if action.Value == nil { // the application's own, whatever else it holds
		return e, nil
	}
	name, err := exactjson.String(action.Value)
	switch {
	case err != nil:
		return e, errNoRequest
	case action.Ambiguous || name != "" && (ref.Ambiguous || body.Ambiguous):
		return e, errTwoWays
	}
	e.action = Action(name)
	return e, nil
}

// withRef returns a refusal with a request's ref.
func withRef(err error, ref json.RawMessage) error {
	if err == nil || ref == nil {
		return err
	}
	return RefusalOf(err).WithRef(ref)
}

func isRef(ref []byte) bool {
	return len(ref) == 0 || len(ref) <= maxRefBytes && bytes.IndexByte([]byte(`"-0123456789`), ref[0]) >= 0
}

// readSecret reads the secret in a request's body, which has maxBytes at most.
func readSecret(body []byte, maxBytes int) (string, error) {
	secret, err := exactjson.String(body)
	if err != nil || len(body) == 0 || body[0] != '"' || len(secret) > maxBytes {
		return "", &Refusal{Code: CodeBadMessage, Message: fmt.Sprintf("the body of a secret is a string of at most %d bytes", maxBytes)}
	}
	return secret, nil
}

// The members of a key; the classic wire does not have the last.
var keyNames = []string{"entity", "id", "snapshot", "version"}

// readKey reads those members of a key that names lists. snapshot counts if the key does not
// say.
func readKey(object []byte, names []string, snapshot bool) (k Key, err error) {
	if !exactjson.IsObject(object) {
		return k, errBadKeys
	}
	var m [4]exactjson.Member
	exactjson.Read(object, names, m[:])
	for i := range m {
		if m[i].Ambiguous {
			return k, errTwoWays
		}
	}
	entity, err1 := keyText(m[0].Value)
	id, err2 := keyText(m[1].Value)
	version, err3 := keyText(m[3].Value)
	k = Key{EntityKey: shared.EntityKey{Entity: shared.EntityType(entity), ID: id}, Version: version, Snapshot: snapshot}
	if m[2].Has() {
		switch string(m[2].Value) {
		case "true":
			k.Snapshot = true
		case "false":
			k.Snapshot = false
		default:
			return k, errBadKeys
		}
	}
	if err1 != nil || err2 != nil || err3 != nil {
		return k, errBadKeys
	}
	return k, nil
}

// noText is a text that no key has.
const noText = "\xff"

// keyText reads a text. It replaces a text with an invalid character by noText, so that only
// its own key is refused.
func keyText(value []byte) (string, error) {
	text, err := exactjson.String(value)
	if errors.Is(err, exactjson.ErrNoCharacter) {
		return noText, nil
	}
	return text, err
}

// readTargets reads a key or a topic, or a list of them.
func readTargets(body []byte) (targets []Target, err error) {
	if !exactjson.IsList(body) {
		t, err := readTarget(body)
		return []Target{t}, err
	}
	for element := range exactjson.Elements(body) {
		if string(element) == "null" { // an empty key, which is refused as such
			element = []byte("{}")
		}
		t, err := readTarget(element)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, errBadTarget
	}
	return targets, nil
}

var topicNames = []string{"topic", "entity", "exact", "after"}

// readTarget reads a key, or a topic where there is a member of that name.
func readTarget(object []byte) (t Target, err error) {
	if !exactjson.IsObject(object) {
		return t, errBadTarget
	}
	var m [4]exactjson.Member
	exactjson.Read(object, topicNames, m[:])
	if !m[0].Ambiguous && m[0].Value == nil {
		t.Key, err = readKey(object, keyNames, true)
		return t, err
	}
	for i := range m {
		if m[i].Ambiguous {
			return t, errTwoWays
		}
	}
	topic, err1 := keyText(m[0].Value)
	after, err2 := keyText(m[3].Value)
	exact, ok := isTrue(&m[2])
	if err1 != nil || err2 != nil || !ok || m[1].Value != nil {
		return t, errBadTarget
	}
	return Target{IsTopic: true, Topic: shared.Topic(topic), Exact: exact, After: after}, nil
}

// isTrue reads true or false, which is false where there is none.
func isTrue(m *exactjson.Member) (value, ok bool) {
	if !m.Has() {
		return false, true
	}
	switch string(m.Value) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

var publicationNames = []string{"topic", "data", "event", "echo"}

// readPublication reads what is to be published. The event is not looked at.
func readPublication(body []byte) (p Publication, err error) {
	if !exactjson.IsObject(body) {
		return p, errBadPublic
	}
	var m [4]exactjson.Member
	exactjson.Read(body, publicationNames, m[:])
	for i := range m {
		if m[i].Ambiguous {
			return p, errTwoWays
		}
	}
	if m[1].Value != nil && m[2].Value != nil || m[0].Value == nil {
		return p, errBadPublic
	}
	topics := [][]byte{m[0].Value}
	if exactjson.IsList(m[0].Value) {
		topics = slices.Collect(exactjson.Elements(m[0].Value))
	}
	if len(topics) == 0 || len(topics) > shared.MaxEventTopics { // the application may be asked of each
		return p, errBadPublic
	}
	for _, value := range topics {
		topic, err := keyText(value)
		if err != nil {
			return p, errBadPublic
		}
		p.Topics = append(p.Topics, shared.Topic(topic))
	}
	p.Data, p.Event = m[1].Value, m[2].Value
	if m[3].Has() && string(m[3].Value) != "true" && string(m[3].Value) != "false" {
		return p, errBadPublic
	}
	p.NoEcho = string(m[3].Value) == "false"
	return p, nil
}
