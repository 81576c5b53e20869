package wire

import (
	"fmt"
	"time"
)

// Close codes with a meaning here. From 4400 to 4499 a client does well to come back, from
// 4500 to 4599 it does not: see IsFinal.
const (
	// CloseNormal says that the application is done with the client, or the client with
	// the node. It is RFC 6455's "normal closure".
	CloseNormal = 1000

	// CloseRestart says that the node goes, and perhaps when to come back: see RetryHint.
	// It is RFC 6455's "service restart".
	CloseRestart = 1012

	// CloseExpired says that the secret has expired. Come back with a new one.
	CloseExpired = 4401

	// CloseSlow says that more was waiting for the client than a node holds for
	// one. Come back, and ask for less or read faster.
	CloseSlow = 4408

	// CloseDisconnected says that the application asks the client to connect anew.
	CloseDisconnected = 4410

	// CloseUnauthenticated says that no valid secret was said in time.
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

// IsFinal reports whether a client that was sent away with the code does not come back: it
// would be sent away again.
func IsFinal(code int) bool {
	switch code {
	case closeProtocolError, closeUnsupportedData, closeInvalidData, closeMessageTooBig:
		return true
	default:
		return code >= 4500 && code <= 4599
	}
}

const retryHint = "restarting; retry in %d ms"

// RetryHint returns the reason of CloseRestart that asks the client to wait before it comes
// back.
func RetryHint(wait time.Duration) string { return fmt.Sprintf(retryHint, wait.Milliseconds()) }

// ParseRetryHint reads what RetryHint wrote, up to an hour. It is not ok of any other
// reason.
func ParseRetryHint(reason string) (wait time.Duration, ok bool) {
	var ms int64
	if _, err := fmt.Sscanf(reason, retryHint, &ms); err != nil || ms < 0 {
		return 0, false
	}
	return time.Duration(min(ms, time.Hour.Milliseconds())) * time.Millisecond, true
}
