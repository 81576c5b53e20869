package client

import "fmt"

// State says how far what is known can be relied on: of the connection, or of one
// key.
type State uint8

const (
	// Connecting says that there is no connection yet, or none again, and that
	// no attempt has failed since; of a key that nothing is known of it yet.
	Connecting State = iota

	// Live says that every change arrives.
	Live

	// Stale says that what is known may be out of date: the server says that it
	// cannot vouch for it, or it has not been confirmed since a reconnect.
	Stale

	// Offline says that the server cannot be reached. It is tried again.
	Offline

	// Denied says that the server refuses. A key is asked for again when the
	// client has said a secret anew, or after another Subscribe; a connection is
	// given up.
	Denied
)

// String returns the state's name in lower case.
func (s State) String() string {
	names := [...]string{"connecting", "live", "stale", "offline", "denied"}
	if int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return names[s]
}

// Status is the state of the connection.
type Status struct {
	State State

	// Err is why it is not live: what ended the last connection, or what became
	// of the last attempt. Nil at first, and where the server says Stale.
	Err error
}
