package testkit

import (
	"fmt"
	"os"

	"go.uber.org/goleak"
)

// ServesHTTP is for goleak.VerifyTestMain in a package whose tests have an http.Server: a
// goroutine of a connection ends a moment after its server.
func ServesHTTP() goleak.Option { return goleak.IgnoreAnyFunction("net/http.(*conn).serve") }

// AtEnd is for goleak.VerifyTestMain: it ends what the tests shared, such as a database's
// server, after the last of them. An error fails the tests.
func AtEnd(end func() error) goleak.Option {
	return goleak.Cleanup(func(code int) {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	})
}
