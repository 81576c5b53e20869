// Package wire defines the messages between clients and nodes: it reads requests from
// messages, and makes messages of replies. docs/protocol.md describes them. The package is
// pure: it knows neither sessions nor sockets. Nodes, clients, tests and benchmarks use the
// same types.
package wire

import (
	"encoding/json"

	"github.com/entity-sync/entity-sync/shared"
)

// SubprotocolV2 is the subprotocol that a client asks for, in the header
// Sec-WebSocket-Protocol, to speak the v2 wire.
const SubprotocolV2 = "entity-sync.v2"

// Wire is one encoding of requests and replies, from the node's end.
type Wire interface {
	// Name is the wire's name in the log.
	Name() string

	// Request reads one message of a client. An error is a *Refusal, and has the
	// request's Ref as far as there is one.
	Request(message []byte, o Options) (Request, error)

	// Reply returns the messages for r: none if the wire cannot express it. They may share
	// memory with r.
	Reply(r Reply) (messages [][]byte)
}

// Options say how a node takes requests.
type Options struct {
	MaxSecretBytes int  // of a secret
	Snapshot       bool // each subscription on the classic wire has one, even if the client does not ask
}

// Appender is a Wire on which each reply is one message, which can be made in place.
type Appender interface {
	Wire

	// Append appends the message for r, or nothing if Reply returns none.
	Append(b []byte, r Reply) []byte
}

// Request is a client's request.
type Request struct {
	Action Action          // empty if the message is the application's own
	Ref    json.RawMessage // to be sent back; nil if there is none
	Secret string          // for ActionSecret

	Targets     []Target    // for ActionSubscribe and ActionUnsubscribe: one at least
	Publication Publication // for ActionPublish

	// Unclaimed is the refusal of a message of the application's own, if the application takes
	// none. Nil means that the message is ignored.
	Unclaimed *Refusal
}

// Key is a key in a request.
type Key struct {
	shared.EntityKey
	Version  string // of the client's rows; empty if the client does not say
	Snapshot bool   // the client asks for the key's rows as they are now
}

// Target is the key or the topic that a client subscribes to or unsubscribes from.
type Target struct {
	Key // zero if the target is a topic

	IsTopic bool
	Topic   shared.Topic
	Exact   bool   // without the topics below Topic
	After   string // id of the last event that the client has; empty if the client names none
}

// Publication is an event that a client publishes.
type Publication struct {
	Topics []shared.Topic
	Event  json.RawMessage // nil if there is none: the node makes an event of Data
	Data   json.RawMessage // nil if there is none
	NoEcho bool            // the publisher itself does not hear the event
}

// Reply is a message of a node. The action decides which fields are used.
type Reply struct {
	Action  Action
	Ref     json.RawMessage  // of the request that it answers
	Key     shared.EntityKey // the key that it is about
	Index   *int             // of the key or topic in the request, if the key or topic itself is malformed
	Version string           // of the rows
	Rows    [][]byte         // of ActionUpdate
	Code    Code             // of ActionError and ActionUnsubscribed
	Message string           // the code in words
	Seconds int              // of ActionExpiring

	Topic   shared.Topic    // the topic that it is about, if any
	Context []shared.Topic  // of ActionEvent: the client's subscriptions that match, the most specific one first
	Event   json.RawMessage // of ActionEvent
	Missed  uint64          // of ActionGap: how many events; zero if that is not known
}

// Action is the kind of a message.
type Action string

// The actions of clients.
const (
	ActionSecret      = Action(shared.ActionSecret)
	ActionSubscribe   = Action(shared.ActionSubscribe)
	ActionUnsubscribe = Action(shared.ActionUnsubscribe)
	ActionPublish     = Action(shared.ActionPublish)
)

// The actions of nodes.
const (
	ActionAck          Action = "ack"          // the request was taken
	ActionUpdate       Action = "update"       // these are the key's rows now
	ActionCurrent      Action = "current"      // the client's version is the newest
	ActionDelete       Action = "delete"       // the key has no row any more
	ActionUnsubscribed Action = "unsubscribed" // the subscription has ended, see Code
	ActionStale        Action = "stale"        // rows that were sent may be out of date
	ActionFresh        Action = "fresh"        // all rows that were sent are up to date again
	ActionExpiring     Action = "expiring"     // the secret expires after Seconds
	ActionError        Action = "error"        // a request was refused, see Code
	ActionEvent        Action = "event"        // this event was published to a topic
	ActionGap          Action = "gap"          // events of a topic were missed
)
