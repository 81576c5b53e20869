package test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/bustest"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/bridge/sealed"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

func TestNSQConformance(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		nsqd := nsqdtest.Start(t)
		return harness(nsqd, nsqbus.Config{Addrs: []string{nsqd.Addr}})
	})
}

func TestNSQConformanceOverDiscovery(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		lookupd := nsqdtest.StartLookupd(t)
		nsqd := nsqdtest.StartWith(t, nsqdtest.Options{LookupAddrs: []string{lookupd.Addr}})
		return harness(nsqd, nsqbus.Config{LookupAddrs: []string{lookupd.HTTPAddr}, LookupInterval: lookupInterval})
	})
}

func TestNSQConformanceOnASharedTopic(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		nsqd := nsqdtest.Start(t)
		h := harness(nsqd, nsqbus.Config{Addrs: []string{nsqd.Addr}, SharedTopic: "changes"})
		h.Body = bodyNamingItsEntity
		return h
	})
}

func TestNSQConformanceOnASharedTopicOverDiscovery(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		lookupd := nsqdtest.StartLookupd(t)
		nsqd := nsqdtest.StartWith(t, nsqdtest.Options{LookupAddrs: []string{lookupd.Addr}})
		h := harness(nsqd, nsqbus.Config{
			LookupAddrs: []string{lookupd.HTTPAddr}, LookupInterval: lookupInterval, SharedTopic: "changes",
		})
		h.Body = bodyNamingItsEntity
		return h
	})
}

func TestNSQConformanceWithAKey(t *testing.T) {
	t.Parallel()
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		nsqd := nsqdtest.Start(t)
		h := harness(nsqd, nsqbus.Config{Addrs: []string{nsqd.Addr}, SharedTopic: "changes"})
		plain := h.NewBus
		h.NewBus = func(t *testing.T) bus.Bus {
			b, err := sealed.New(plain(t), sealed.Config{Keys: [][]byte{[]byte(laterKey)}, Logger: canary.Logger(canary.Output(t))})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		h.Body = bodyNamingItsEntity
		return h
	})
}

// lookupInterval makes what takes a minute by default take a second or two.
const lookupInterval = 100 * time.Millisecond

func harness(nsqd *nsqdtest.Daemon, c nsqbus.Config) bustest.Harness {
	c.Prefix = "conformance."
	return bustest.Harness{
		Surveyed: true,
		NewBus: func(t *testing.T) bus.Bus {
			c.Logger = canary.Logger(canary.Output(t))
			b, err := nsqbus.New(c)
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		Stop:  func(t *testing.T) { nsqd.Stop(t) },
		Start: func(t *testing.T) { nsqd.Start(t) },
	}
}

func bodyNamingItsEntity(entity shared.EntityType, text string) []byte {
	body, err := json.Marshal(map[string]any{"entity": entity, "text": []byte(text)})
	if err != nil {
		panic(err)
	}
	return body
}
