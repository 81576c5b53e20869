package wire

import (
	"fmt"
	"time"
)

// Close codes with a meaning here. After 4400 to 4499 a client should come back, after 4500 to
// 4599 it should not: see IsFinal.
const (
	// CloseNormal says that the application is done with the client, or the client with
	// the node. It is RFC 6455's "normal closure".
	CloseNormal = 1000

	// CloseRestart says that the node shuts down, and perhaps when to come back: see
	// RetryHint. It is RFC 6455's "service restart".
	CloseRestart = 1012

	// CloseExpired says that the secret has expired. Come back with a new one.
	CloseExpired = 4401

	// CloseSlow says that more was waiting for the client than a node holds for one client.
	// Come back, and subscribe to less or read faster.
	CloseSlow = 4408

	// CloseDisconnected says that the application asks the client to connect anew.
	CloseDisconnected = 4410

	// CloseUnauthenticated says that the client sent no valid secret in time.
	CloseUnauthenticated = 4501

	// CloseRevoked says that the application has withdrawn the secret.
	CloseRevoked = 4503
)

// Close codes of RFC 6455, section 7.4.1, for a client that breaks the protocol.
const (
	closeProtocolError   = 1002
	closeUnsupportedData = 1003
	closeInvalidData     = 1007
	closeMessageTooBig   = 1009
)

// IsFinal reports whether a client that was sent away with the code must not come back,
// because it would be sent away again.
func IsFinal(code int) bool {
	switch code {
	case closeProtocolError, closeUnsupportedData, closeInvalidData, closeMessageTooBig:
		return true
	default:
		return code >= 4500 && code <= 4599
	}
}

const retryHint = "restarting; retry in %d ms"

// RetryHint returns a reason for CloseRestart that asks the client to wait before it comes
// back.
func RetryHint(wait time.Duration) string { return fmt.Sprintf(retryHint, wait.Milliseconds()) }

// ParseRetryHint reads a reason of RetryHint, up to an hour. It is not ok for any other
// reason.
func ParseRetryHint(reason string) (wait time.Duration, ok bool) {
	var ms int64
	if _, err := fmt.Sscanf(reason, retryHint, &ms); err != nil || ms < 0 {
		return 0, false
	}
	return time.Duration(min(ms, time.Hour.Milliseconds())) * time.Millisecond, true
}
