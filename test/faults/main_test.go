package faults

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

func TestMain(m *testing.M) {
	nsqdtest.Main()
	nodeMain()
	flag.Parse()
	fmt.Printf("faults.seed=%d\n", theSeed())
	code := m.Run()
	if err := pgtest.End(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
