// Package test runs Entity Sync with real parts: nsqd, sockets, several nodes,
// and classic programs as processes of their own.
package test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	nsqdtest.Main()
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).serve")) // ends a moment after its server
}
