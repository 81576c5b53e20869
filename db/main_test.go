package db_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.AtEnd(pgtest.End)) }
