package client

import "fmt"

// State says how reliable the known rows are: all those of the connection, or those of one
// key.
type State uint8

const (
	// Connecting says that there is no connection, and that no attempt has failed since there
	// was one. Of a key it says that nothing is known of it yet.
	Connecting State = iota

	// Live says that every change arrives.
	Live

	// Stale says that the known rows may be out of date: the server cannot vouch for them, or
	// has not confirmed them since a reconnect.
	Stale

	// Offline says that the server cannot be reached. The Client tries again.
	Offline

	// Denied says that the server refuses. The Client asks again for a key once it has sent
	// another secret, or after another Subscribe. It gives a connection up.
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

	// Err is why the connection is not live: what ended the last one, or the error of the last
	// attempt. Nil at first, and if the server says Stale.
	Err error
}
