package membus_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/bustest"
	"github.com/entity-sync/entity-sync/bridge/membus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	bustest.Run(t, func(*testing.T) bustest.Harness {
		var broker membus.Broker
		return bustest.Harness{
			NewBus: func(*testing.T) bus.Bus { return broker.NewNode() },
			Stop:   func(*testing.T) { broker.SetDown(true) },
			Start:  func(*testing.T) { broker.SetDown(false) },
		}
	})
}
