package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// mainVariable makes the test binary be the program.
const mainVariable = "ENTITY_SYNC_TEST_NSQD_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main() // which does not return
	}
	goleak.VerifyTestMain(m)
}
