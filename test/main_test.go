// Package test runs Entity Sync with real parts: nsqd, PostgreSQL, sockets, several
// nodes, and programs as processes of their own.
package test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

const patience = testkit.Patience

// atFullSize has tests that kill or count very often do so, as make check does.
var atFullSize = flag.Bool("full", false, "kill 200 writers rather than 40, and announce a million keys in one call rather than 100,000")

// sized returns how much of something a test is made with.
func sized(some, full int) int {
	if *atFullSize {
		return full
	}
	return some
}

func TestMain(m *testing.M) {
	nsqdtest.Main()
	process.Main(writerRole, beWriter)
	process.Main(sleeperRole, beSleeper)
	goleak.VerifyTestMain(m, testkit.ServesHTTP(), testkit.AtEnd(pgtest.End))
}
