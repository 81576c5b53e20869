package faults

import (
	"flag"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

func TestMain(m *testing.M) {
	nsqdtest.Main()
	process.Main(nodeRole, beNode)
	flag.Parse()
	fmt.Printf("faults.seed=%d\n", theSeed())
	goleak.VerifyTestMain(m, testkit.AtEnd(pgtest.End))
}
