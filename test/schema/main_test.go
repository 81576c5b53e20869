// Package schema holds nodes and clients against docs/protocol.schema.json.
package schema

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.ServesHTTP()) }
