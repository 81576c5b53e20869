// Package wire is what clients and nodes say to each other: messages to requests, and
// replies to messages. docs/protocol.md describes it. The package is pure: it knows
// neither sessions nor sockets, and nodes, clients, tests and benchmarks use the same
// types.
package wire

import (
	"encoding/json"

	"github.com/entity-sync/entity-sync/shared"
)

// SubprotocolV2 is what a client asks for, in the header Sec-WebSocket-Protocol, to speak
// the v2 wire.
const SubprotocolV2 = "entity-sync.v2"

// Wire is one way to say it, from the node's end.
type Wire interface {
	// Name is what the log calls the wire.
	Name() string

	// Request reads one message of a client. An error is a *Refusal, and has the
	// request's Ref as far as there is one.
	Request(message []byte, o Options) (Request, error)

	// Reply returns the messages that say r: none where the wire has no words for it. They
	// may share memory with r.
	Reply(r Reply) (messages [][]byte)
}

// Options say how a node takes requests.
type Options struct {
	MaxSecretBytes int  // of a secret
	Snapshot       bool // on the classic wire, for every subscription, whether the client asks for one or not
}

// Appender is a Wire of which each reply is one message, that can be made in place.
type Appender interface {
	Wire

	// Append appends the message that says r, and nothing where Reply returns none.
	Append(b []byte, r Reply) []byte
}

// Request is what a client asks for.
type Request struct {
	Action Action          // of a client's; empty where the message is the application's own
	Ref    json.RawMessage // to be sent back; nil where there is none
	Secret string          // for ActionSecret

	Targets     []Target    // for ActionSubscribe and ActionUnsubscribe: one at least
	Publication Publication // for ActionPublish

	// Unclaimed is what to refuse a message of the application's own with, where the
	// application takes none. Nil means that it is passed over.
	Unclaimed *Refusal
}

// Key is a key in a request.
type Key struct {
	shared.EntityKey
	Version  string // of what the client has; empty where it does not say
	Snapshot bool   // the client asks for the key's rows as they are now
}

// Target is what a request subscribes to: a key, or a topic.
type Target struct {
	Key // where it is none of a topic

	IsTopic bool
	Topic   shared.Topic
	Exact   bool   // without what is below the topic
	After   string // id of the last event that the client has; empty where it does not say
}

// Publication is an event that a client publishes.
type Publication struct {
	Topics []shared.Topic
	Event  json.RawMessage // nil where there is data, or nothing
	Data   json.RawMessage // nil where there is none
	NoEcho bool            // its publisher is not to hear it
}

// Reply is what a node says. Which fields mean something depends on the action.
type Reply struct {
	Action  Action
	Ref     json.RawMessage  // of the request that it answers
	Key     shared.EntityKey // what it is about
	Index   *int             // of the key in the request, where the key itself is malformed
	Version string           // of the rows
	Rows    [][]byte         // of ActionUpdate
	Code    Code             // of ActionError and ActionUnsubscribed
	Message string           // says the code in words
	Seconds int              // of ActionExpiring

	Topic   shared.Topic    // what it is about, where it is about a topic
	Context []shared.Topic  // of ActionEvent: the client's subscriptions that it is for, the most special one first
	Event   json.RawMessage // of ActionEvent
	Missed  uint64          // of ActionGap; zero where it is not known
}

// Action is what a message is about.
type Action string

// What clients say.
const (
	ActionSecret      = Action(shared.ActionSecret)
	ActionSubscribe   = Action(shared.ActionSubscribe)
	ActionUnsubscribe = Action(shared.ActionUnsubscribe)
	ActionPublish     = Action(shared.ActionPublish)
)

// What nodes say.
const (
	ActionAck          Action = "ack"          // the request was taken
	ActionUpdate       Action = "update"       // these are the key's rows now
	ActionCurrent      Action = "current"      // the client's version is the newest
	ActionDelete       Action = "delete"       // the key has no row any more
	ActionUnsubscribed Action = "unsubscribed" // the subscription has ended, see Code
	ActionStale        Action = "stale"        // what was sent may be out of date
	ActionFresh        Action = "fresh"        // and is not any more
	ActionExpiring     Action = "expiring"     // the secret will not do after Seconds
	ActionError        Action = "error"        // a request was refused, see Code
	ActionEvent        Action = "event"        // this was published to a topic
	ActionGap          Action = "gap"          // of a topic events were missed
)
