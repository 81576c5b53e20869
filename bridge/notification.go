package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/entity-sync/entity-sync/internal/exactjson"
	"github.com/entity-sync/entity-sync/shared"
)

// maxNotificationBytes keeps one bus message far below the smallest
// --max-msg-size that anybody sets on an nsqd, however many keys changed.
const maxNotificationBytes = 8 << 10

// notification is what travels on the bus: the keys of one entity type that
// changed, never their rows. With one key it is {"entity","id"}, which any
// program may publish; with several, {"entity","ids":[…]}.
//
// Nodes add who they are and the number of the message, counted from 1 for each
// entity type, so that others notice when one is lost. A message with a number
// and no id is a beat: it says what number its sender has come to.
type notification struct {
	Entity shared.EntityType `json:"entity"`
	ID     string            `json:"id,omitempty"`
	IDs    []string          `json:"ids,omitempty"`
	From   string            `json:"from,omitempty"`
	Seq    uint64            `json:"seq,omitempty"`
}

func (n notification) isBeat() bool { return n.ID == "" && len(n.IDs) == 0 }

func notificationOf(entity shared.EntityType, ids []string) notification {
	if len(ids) == 1 {
		return notification{Entity: entity, ID: ids[0]}
	}
	return notification{Entity: entity, IDs: ids}
}

// fitting returns how many of the ids go together into so much room: one at least.
func fitting(ids []string, room int) (n int) {
	for size := 0; n < len(ids) && (n == 0 || size+len(ids[n]) < room); n++ {
		size += len(ids[n]) + len(`"",`)
	}
	return n
}

// sizeOf returns the room that ids take together.
func sizeOf(ids []string) (size int) {
	for _, id := range ids {
		size += len(id) + len(`"",`)
	}
	return size
}

func (n notification) encode() ([]byte, error) {
	if body, plain := encodePlain(n); plain {
		return body, nil
	}
	return n.encodeAny()
}

// encodeAny leaves '<', '>' and '&' as they are, which no bus cares about: escaped
// they would take six bytes each.
func (n notification) encodeAny() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(n); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// maxFromBytes bounds what a stranger can make a node remember of it.
const maxFromBytes = 64

var errNotANotification = errors.New("want an object with an entity and an id, or ids, or a number and its sender")

// decodeNotification reads a body from the topic of entity. Anybody may publish
// to a topic, so nothing in the body is trusted: keys of another entity type
// are refused.
func decodeNotification(entity shared.EntityType, body []byte) (notification, error) {
	note, plain := decodePlain(string(body))
	if !plain {
		var err error
		if note, err = decodeAny(body); err != nil {
			return note, fmt.Errorf("decoding a notification: %w", err)
		}
	}
	if note.Entity == "" || note.isBeat() && (note.From == "" || note.Seq == 0) || len(note.From) > maxFromBytes {
		return note, errNotANotification
	}
	if note.Entity != entity {
		return note, fmt.Errorf("the topic of %q carried a notification of %q", entity, note.Entity)
	}
	return note, nil
}

var notificationNames = []string{"entity", "id", "ids", "from", "seq"}

// decodeAny reads a body by the letter: one that others may read in another way is no
// notification, and neither is one of an id that cannot be told from other ids.
func decodeAny(body []byte) (n notification, err error) {
	if !json.Valid(body) || !exactjson.IsObject(body) {
		return n, errNotANotification
	}
	var m [5]exactjson.Member
	exactjson.Read(body, notificationNames, m[:])
	for i := range m {
		if m[i].Ambiguous {
			return n, fmt.Errorf("%q is there twice, or in another case", notificationNames[i])
		}
	}
	entity, err1 := exactjson.String(m[0].Value)
	id, err2 := exactjson.String(m[1].Value)
	ids, err3 := decodeIDs(&m[2])
	from, err4 := exactjson.String(m[3].Value)
	n = notification{Entity: shared.EntityType(entity), ID: id, IDs: ids, From: from}
	var err5 error
	if m[4].Has() {
		n.Seq, err5 = strconv.ParseUint(string(m[4].Value), 10, 64)
	}
	return n, errors.Join(err1, err2, err3, err4, err5)
}

func decodeIDs(m *exactjson.Member) (ids []string, err error) {
	if !m.Has() {
		return nil, nil
	}
	if !exactjson.IsList(m.Value) {
		return nil, errNotANotification
	}
	for element := range exactjson.Elements(m.Value) {
		id, err := exactjson.String(element)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// each calls f with every key of the notification.
func (n notification) each(f func(shared.EntityKey)) {
	if n.ID != "" {
		f(shared.EntityKey{Entity: n.Entity, ID: n.ID})
	}
	for _, id := range n.IDs {
		f(shared.EntityKey{Entity: n.Entity, ID: id})
	}
}
