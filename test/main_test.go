// Package test runs Entity Sync with real parts: an nsqd inside the process,
// sockets, and several nodes.
package test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
