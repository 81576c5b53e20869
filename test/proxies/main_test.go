package proxies

import (
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
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := pgtest.End(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}
