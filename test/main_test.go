// Package test runs Entity Sync with real parts: nsqd, PostgreSQL, sockets, several
// nodes, and programs as processes of their own.
package test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

func TestMain(m *testing.M) {
	nsqdtest.Main()
	writerMain()
	sleeperMain()
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"), // ends a moment after its server
		goleak.Cleanup(func(code int) {
			if err := pgtest.End(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
			os.Exit(code)
		}))
}
