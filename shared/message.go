package shared

import "encoding/json"

// Action says what a client's message asks for.
type Action string

// The actions of the classic wire. A message with no action is the
// application's own and goes to its pass-through handler.
const (
	ActionSubscribe   Action = "subscribe"
	ActionUnsubscribe Action = "unsubscribe"
	ActionSecret      Action = "secret"
	ActionPublish     Action = "publish"
)

// Message is the envelope of everything a client sends: for ActionSecret the
// body is a JSON string, for ActionSubscribe and ActionUnsubscribe an EntityKey.
type Message struct {
	Action Action          `json:"action"`
	Body   json.RawMessage `json:"body"`
}
