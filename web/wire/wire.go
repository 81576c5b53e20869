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
	Keys   []Key           // for ActionSubscribe and ActionUnsubscribe: one at least

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

// Reply is a message of a node. The action decides which fields are used.
type Reply struct {
	Action  Action
	Ref     json.RawMessage  // of the request that it answers
	Key     shared.EntityKey // the key that it is about
	Index   *int             // of the key in the request, if the key itself is malformed
	Version string           // of the rows
	Rows    [][]byte         // of ActionUpdate
	Code    Code             // of ActionError and ActionUnsubscribed
	Message string           // the code in words
	Seconds int              // of ActionExpiring
}

// Action is the kind of a message.
type Action string

// The actions of clients.
const (
	ActionSecret      = Action(shared.ActionSecret)
	ActionSubscribe   = Action(shared.ActionSubscribe)
	ActionUnsubscribe = Action(shared.ActionUnsubscribe)
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
)
