// Package test runs Entity Sync with real parts: nsqd, PostgreSQL, sockets, several
// nodes, and programs as processes of their own.
package test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

const patience = testkit.Patience

func TestMain(m *testing.M) {
	nsqdtest.Main()
	process.Main(writerRole, beWriter)
	process.Main(sleeperRole, beSleeper)
	goleak.VerifyTestMain(m, testkit.ServesHTTP(), testkit.AtEnd(pgtest.End))
}
