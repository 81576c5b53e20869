package es

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// Every field that Config shares with a part's Config reaches it.
func TestConfigReachesTheParts(t *testing.T) {
	c := Config{
		AllowedOrigins: []string{"https://example.com"}, Snapshot: true, PublishTimeout: 1,
		MaxMessageBytes: 2, MaxSubscriptions: 3, PingInterval: 4, PongWait: 5, WriteTimeout: 6,
		Logger: slog.New(slog.DiscardHandler), WSPassThrough: func(string, []byte) {}, OnMessage: func(web.Session, []byte) {},
		Authenticate:  func(*http.Request) (string, time.Time, error) { return "", time.Time{}, nil },
		VerifySecret:  func(context.Context, string) (time.Time, error) { return time.Time{}, nil },
		RequireSecret: true, SecretTimeout: 7, RemoteAddr: func(*http.Request) string { return "" },
		Authorize:   func(context.Context, shared.AccessRequest) error { return nil },
		MaxSessions: 8, MaxSessionsPerAddr: 9, MessageRate: 10, SubscribeRate: 11, MaxQueuedBytes: 12, MaxSecretBytes: 13,
	}
	got := c.web(&bridge.Bridge{})
	part := reflect.ValueOf(got)
	for i := range part.NumField() {
		if part.Field(i).IsZero() {
			t.Errorf("web.Config.%s is not set", part.Type().Field(i).Name)
		}
	}
	if got.MaxMessageBytes != 2 || got.MaxSubscriptions != 3 || got.PingInterval != 4 || got.PongWait != 5 || got.WriteTimeout != 6 ||
		got.SecretTimeout != 7 || got.MaxSessions != 8 || got.MaxSessionsPerAddr != 9 || got.MessageRate != 10 || got.SubscribeRate != 11 || got.MaxQueuedBytes != 12 || got.MaxSecretBytes != 13 {
		t.Errorf("values are mixed up: %+v", got)
	}
	if b := c.bridge(nil, nil); b.PublishTimeout != 1 || b.Logger != c.Logger {
		t.Errorf("bridge.Config is %+v", b)
	}
}

func TestConfigReachesNSQ(t *testing.T) {
	c := Config{
		NSQAddr: "a:1, b:2", NSQLookupAddr: "c:3,d:4", NSQSharedTopic: "changes", QueuePrefix: "my.",
		NSQTLS: &tls.Config{}, NSQAuthSecret: canary.Mark, Logger: slog.New(slog.DiscardHandler),
	}
	want := nsqbus.Config{
		Addrs: []string{"a:1", "b:2"}, LookupAddrs: []string{"c:3", "d:4"}, SharedTopic: "changes", Prefix: "my.",
		TLS: c.NSQTLS, AuthSecret: canary.Mark, Logger: c.Logger,
	}
	if got := c.nsq(); !reflect.DeepEqual(got, want) {
		t.Errorf("nsqbus.Config is %+v, want %+v", got, want)
	}
	// With one kind of address alone the other is none, not an empty one.
	for _, c := range []Config{{NSQAddr: "a:1"}, {NSQLookupAddr: "c:3"}} {
		bus, err := c.bus()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := bus.(*nsqbus.Bus); !ok {
			t.Errorf("%+v is a %T, want NSQ", c, bus)
		}
		if err := bus.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestOptionsReachTheEngine(t *testing.T) {
	set, err := settingsOf([]Option{
		WithScope(func(string) string { return "x" }), WithWorkers(1), WithTimeout(2), WithRetry(3, 4), WithMaxBytes(5), WithBatchSize(6),
		WithResyncRate(7), WithRefresh(8), WithOnlyDifferences(),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := set.EntityOptions
	if got.Scope("") != "x" {
		t.Error("the scope function is lost")
	}
	got.Scope = nil
	want := bridge.EntityOptions{Workers: 1, Timeout: 2 * time.Nanosecond, Retry: bridge.Retry{Min: 3, Max: 4}, MaxBytes: 5, BatchSize: 6, ResyncRate: 7, Refresh: 8, OnlyDifferences: true}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A key that cannot be is refused at the start, without being shown.
func TestTheKeyOfTheBusIsChecked(t *testing.T) {
	long := canary.Mark + "0123456789abcdef"
	for name, c := range map[string]Config{
		"no bus":           {BusKey: long},
		"a short one":      {NSQAddr: "127.0.0.1:1", BusKey: canary.Mark[:8]},
		"a short second":   {NSQAddr: "127.0.0.1:1", BusKey: long + "," + canary.Mark[:8]},
		"a comma too many": {NSQAddr: "127.0.0.1:1", BusKey: long + ","},
	} {
		_, err := New(c)
		if err == nil || !strings.Contains(err.Error(), "BusKey") || strings.Contains(err.Error(), canary.Mark[:8]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := New(Config{Bus: new(membus.Broker).NewNode(), BusKey: long + ", " + long + "2", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
