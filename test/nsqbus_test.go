package test

import (
	"testing"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bustest"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

func TestNSQConformance(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		nsqd := nsqdtest.Start(t)
		return bustest.Harness{
			NewBus: func(t *testing.T) bridge.Bus {
				b, err := nsqbus.New(nsqbus.Config{Addrs: []string{nsqd.Addr}, Prefix: "conformance."})
				if err != nil {
					t.Fatal(err)
				}
				return b
			},
			Stop:  func(t *testing.T) { nsqd.Stop(t) },
			Start: func(t *testing.T) { nsqd.Start(t) },
		}
	})
}
