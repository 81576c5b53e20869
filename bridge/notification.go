package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/entity-sync/entity-sync/shared"
)

// maxNotificationBytes keeps one bus message far below the smallest
// --max-msg-size that anybody sets on an nsqd, however many keys changed.
const maxNotificationBytes = 8 << 10

// notification is what travels on the bus: the keys of one entity type that
// changed, never their rows. With one key it is {"entity","id"}, which any
// program may publish; with several, {"entity","ids":[…]}.
type notification struct {
	Entity shared.EntityType `json:"entity"`
	ID     string            `json:"id,omitempty"`
	IDs    []string          `json:"ids,omitempty"`
}

// encodeNotifications packs the ids into as few bodies as their size allows.
func encodeNotifications(entity shared.EntityType, ids []string) ([][]byte, error) {
	var bodies [][]byte
	for len(ids) > 0 {
		n, size := 0, 0
		for n < len(ids) && (n == 0 || size+len(ids[n]) < maxNotificationBytes) {
			size += len(ids[n]) + len(`"",`)
			n++
		}
		note := notification{Entity: entity, IDs: ids[:n]}
		if n == 1 {
			note = notification{Entity: entity, ID: ids[0]}
		}
		body, err := note.encode()
		if err != nil {
			return nil, fmt.Errorf("encoding a notification of %q: %w", entity, err)
		}
		bodies = append(bodies, body)
		ids = ids[n:]
	}
	return bodies, nil
}

// encode leaves '<', '>' and '&' as they are, which no bus cares about: escaped
// they would take six bytes each.
func (n notification) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(n); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

var errNotANotification = errors.New("want an object with an entity and an id, or ids")

// decodeNotification reads a body from the topic of entity. Anybody may publish
// to a topic, so nothing in the body is trusted: keys of another entity type
// are refused.
func decodeNotification(entity shared.EntityType, body []byte) (notification, error) {
	var note notification
	if err := json.Unmarshal(body, &note); err != nil {
		return note, fmt.Errorf("decoding a notification: %w", err)
	}
	if note.Entity == "" || note.ID == "" && len(note.IDs) == 0 {
		return note, errNotANotification
	}
	if note.Entity != entity {
		return note, fmt.Errorf("the topic of %q carried a notification of %q", entity, note.Entity)
	}
	return note, nil
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
