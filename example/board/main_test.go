package main

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

// atEnd removes what the tests share, after the last of them. One test at a time adds to
// the list.
var atEnd = []func() error{pgtest.End}

func TestMain(m *testing.M) {
	// On a machine that is busy with much else a start takes long.
	connectTimeout, readyTimeout = patience, patience
	goleak.VerifyTestMain(m, testkit.AtEnd(func() (err error) {
		for _, end := range atEnd {
			err = errors.Join(err, end())
		}
		return err
	}))
}
