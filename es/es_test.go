package es_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/db"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

func TestConfigErrorsNameTheField(t *testing.T) {
	nsq := nsqbus.Config{Addrs: []string{"localhost:4150"}}
	for want, c := range map[string]es.Config{
		`Path: is "ws"`:                   {Mux: mux.NewRouter(), Path: "ws"},
		"Path: is for Mux":                {Path: "/live"},
		"Path: web: serving":              {Mux: mux.NewRouter(), Path: "/{"},
		`NSQAddr: holds "localhost"`:      {NSQAddr: "localhost"},
		`NSQAddr: holds "localhost:9`:     {NSQAddr: "localhost:4150,localhost:99999"},
		`NSQ.Addrs: holds "localhost"`:    {NSQ: nsqbus.Config{Addrs: []string{"localhost"}}},
		`NSQ.LookupAddrs: holds "l"`:      {NSQ: nsqbus.Config{LookupAddrs: []string{"l"}}},
		`NSQ.LookupAddrs: holds "l:0"`:    {NSQAddr: "localhost:4150", NSQ: nsqbus.Config{LookupAddrs: []string{"l:1", "l:0"}}},
		`NSQ.Prefix: is "a b"`:            {NSQAddr: "localhost:4150", NSQ: nsqbus.Config{Prefix: "a b"}},
		`NSQ.SharedTopic: makes`:          {NSQAddr: "localhost:4150", NSQ: nsqbus.Config{SharedTopic: "a b"}},
		"NSQ.LookupInterval: is 1":        {NSQAddr: "localhost:4150", NSQ: nsqbus.Config{LookupInterval: 1}},
		"NSQ.Heartbeat: is 1ms":           {NSQAddr: "localhost:4150", NSQ: nsqbus.Config{Heartbeat: time.Millisecond}},
		"NSQ.DialTimeout: is -1ns":        {NSQAddr: "localhost:4150", NSQ: nsqbus.Config{DialTimeout: -1}},
		"NSQ.Reconnect: is -1ns":          {NSQAddr: "localhost:4150", NSQ: nsqbus.Config{Reconnect: -1}},
		"NSQ: is set, but no address":     {NSQ: nsqbus.Config{SharedTopic: "changes"}},
		"Bus: takes the place":            {NSQAddr: "localhost:4150", Bus: new(membus.Broker).NewNode()},
		"Bridge.Bus: takes the place":     {NSQ: nsq, Bridge: bridge.Config{Bus: new(membus.Broker).NewNode()}},
		"NSQAddr: is set, and so is NSQ.": {NSQAddr: "localhost:4150", NSQ: nsq},
		"Bridge.Fetch: must be nil":       {Bridge: bridge.Config{Fetch: db.NewDatabaseHub().Fetch}},
		"Bridge.PublishTimeout: is -1ns":  {Bridge: bridge.Config{PublishTimeout: -1}},
		"Bridge.BeatInterval: is -1ns":    {Bridge: bridge.Config{BeatInterval: -1}},
		"Bridge.MaxFetches: is -1":        {Bridge: bridge.Config{MaxFetches: -1}},
		"Bridge.Grace: is -1ns":           {Bridge: bridge.Config{Grace: -1}},
		"Web.Bridge: must be nil":         {Web: web.Config{Bridge: &bridge.Bridge{}}},
		"AllowedOrigins: holds":           {AllowedOrigins: []string{"example.com"}},
		"Web.AllowedOrigins: holds":       {Web: web.Config{AllowedOrigins: []string{"example.com"}}},
		"OnMessage: takes the place":      {WSPassThrough: func(string, []byte) {}, OnMessage: func(web.Session, []byte) {}},
		"Web.SecretTimeout: is -1ns":      {Web: web.Config{SecretTimeout: -1}},
		"Web.MaxSessions: is -1":          {Web: web.Config{MaxSessions: -1}},
		"Web.MaxSessionsPerAddr: is -1":   {Web: web.Config{MaxSessionsPerAddr: -1}},
		"Web.MessageRate: is -1":          {Web: web.Config{MessageRate: -1}},
		"Web.SubscribeRate: is -1":        {Web: web.Config{SubscribeRate: -1}},
		"Web.MaxQueuedBytes: is -1":       {Web: web.Config{MaxQueuedBytes: -1}},
		"Web.MaxMessageBytes: is -1":      {Web: web.Config{MaxMessageBytes: -1}},
		"Web.MaxSecretBytes: is -1":       {Web: web.Config{MaxSecretBytes: -1}},
		"Web.PingInterval: is -1ns":       {Web: web.Config{PingInterval: -1}},
		"Web.PongWait: is -1ns":           {Web: web.Config{PongWait: -1}},
		"Web.WriteTimeout: is -1ns":       {Web: web.Config{WriteTimeout: -1}},
		"Outbox.Pool: is nil":             {Outbox: &outbox.Config{}},
		"DrainDelay: is -1ns":             {DrainDelay: -1},
	} {
		if _, err := es.New(c); err == nil || !strings.HasPrefix(err.Error(), "es.Config."+want) {
			t.Errorf("New(%+v) returned %v, want an error that begins es.Config.%s", c, err, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Setup did not panic on a configuration that can never work")
		}
	}()
	es.Setup(es.Config{Path: "ws"})
}

func TestRegisterEncodesRows(t *testing.T) {
	type item struct {
		Name string `json:"name"`
	}
	s := nodetest.New(t, es.Config{})
	register := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	register(es.Register(s, "struct", func(context.Context, shared.EntityKey, string) (item, error) { return item{"<a>"}, nil }))
	register(es.Register(s, "pointer", func(context.Context, shared.EntityKey, string) (*item, error) { return &item{"b"}, nil }))
	register(es.Register(s, "raw", func(context.Context, shared.EntityKey, string) (json.RawMessage, error) {
		return json.RawMessage(`{ "as" : "it is" }`), nil
	}))
	register(es.Register(s, "bytes", func(context.Context, shared.EntityKey, string) ([]byte, error) { return []byte("plain"), nil }))
	register(es.Register(s, "nil", func(context.Context, shared.EntityKey, string) (*item, error) { return nil, nil }))
	register(es.Register(s, "broken", func(context.Context, shared.EntityKey, string) (chan int, error) { return make(chan int), nil }))
	register(es.RegisterRows(s, "rows", func(context.Context, shared.EntityKey, string) ([]any, error) {
		return []any{item{"a"}, 7, json.RawMessage(`{}`)}, nil
	}))
	register(es.RegisterRows(s, "none", func(context.Context, shared.EntityKey, string) ([]item, error) { return nil, nil }))
	register(es.RegisterRows(s, "hole", func(context.Context, shared.EntityKey, string) ([]*item, error) { return []*item{{"a"}, nil}, nil }))

	for entity, want := range map[shared.EntityType]struct {
		rows string
		err  error
	}{
		"struct":  {rows: `{"name":"\u003ca\u003e"}`},
		"pointer": {rows: `{"name":"b"}`},
		"raw":     {rows: `{ "as" : "it is" }`},
		"bytes":   {rows: "plain"},
		"nil":     {err: shared.ErrNotFound},
		"rows":    {rows: `{"name":"a"}|7|{}`},
		"none":    {err: shared.ErrNotFound},
	} {
		rows, err := s.DatabaseHub.Fetch(t.Context(), shared.EntityKey{Entity: entity, ID: "1"}, "")
		var got []string
		for _, r := range rows {
			got = append(got, string(r))
		}
		if strings.Join(got, "|") != want.rows || !errors.Is(err, want.err) {
			t.Errorf("%s: got %q, %v, want %q, %v", entity, got, err, want.rows, want.err)
		}
	}
	for _, entity := range []shared.EntityType{"broken", "hole"} {
		if _, err := s.DatabaseHub.Fetch(t.Context(), shared.EntityKey{Entity: entity, ID: "1"}, ""); err == nil || errors.Is(err, shared.ErrNotFound) {
			t.Errorf("%s: %v, want an error that is not ErrNotFound", entity, err)
		}
	}
}

func TestRegistrationErrors(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	fetch := func(context.Context, shared.EntityKey, string) (string, error) { return "", nil }
	if err := es.Register(s, "a b", fetch); !errors.Is(err, shared.ErrBadEntity) {
		t.Errorf("a bad name: %v", err)
	}
	if err := es.Register(s, "items", fetch); err != nil {
		t.Fatal(err)
	}
	if err := es.Register(s, "items", fetch); !errors.Is(err, shared.ErrDuplicateEntity) {
		t.Errorf("twice: %v", err)
	}
	if err := es.Register[string](s, "nil", nil); err == nil {
		t.Error("a nil handler was taken")
	}
	if err := es.RegisterRows[string](s, "nil", nil); err == nil {
		t.Error("a nil rows handler was taken")
	}
	if err := es.Register(s, "options", fetch, es.WithWorkers(-1)); err == nil {
		t.Error("-1 workers were taken")
	}
	if err := s.RegisterEntityAndDBHandler("classic", nil); err == nil {
		t.Error("a nil classic handler was taken")
	}
	if err := s.RegisterEntityAndDBHandler("a b", func(shared.EntityKey, string, shared.ByteHandler) {}); !errors.Is(err, shared.ErrBadEntity) {
		t.Errorf("a bad name, classic: %v", err)
	}
	if err := s.Bridge.NotifyAllOfChange(shared.EntityKey{Entity: "nobody", ID: "1"}); !errors.Is(err, shared.ErrUnknownEntity) {
		t.Errorf("notifying of what nobody registered: %v", err)
	}
}

func TestAClassicHandlerDoesNotReplaceAModernOne(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	if err := es.Register(s, "items", func(context.Context, shared.EntityKey, string) (string, error) { return "modern", nil }); err != nil {
		t.Fatal(err)
	}
	err := s.RegisterEntityAndDBHandler("items", func(shared.EntityKey, string, shared.ByteHandler) {})
	if !errors.Is(err, shared.ErrDuplicateEntity) {
		t.Errorf("got %v, want ErrDuplicateEntity", err)
	}
}

func TestRegisterBatch(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	err := es.RegisterBatch(s, "items", func(_ context.Context, requests []shared.FetchRequest) []shared.FetchResult {
		var results []shared.FetchResult
		for _, r := range requests {
			results = append(results, shared.FetchResult{Rows: [][]byte{[]byte(r.Key.ID + r.Secret.Reveal())}})
		}
		return results
	}, es.WithBatchSize(7), es.WithMaxBytes(100))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.DatabaseHub.Fetch(t.Context(), shared.EntityKey{Entity: "items", ID: "1"}, "me")
	if err != nil || len(rows) != 1 || string(rows[0]) != "1me" {
		t.Errorf("got %q, %v", rows, err)
	}
	if err := es.RegisterBatch(s, "nil", nil); err == nil {
		t.Error("a nil handler was taken")
	}
}

func TestAClassicHandlerRegisteredAgainReplacesTheFirst(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	for _, text := range []string{"old", "new"} {
		err := s.RegisterEntityAndDBHandler("items", func(_ shared.EntityKey, _ string, push shared.ByteHandler) { push([]byte(text)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	rows, err := s.DatabaseHub.Fetch(t.Context(), shared.EntityKey{Entity: "items", ID: "1"}, "")
	if err != nil || !slices.EqualFunc(rows, []string{"new"}, func(b []byte, s string) bool { return string(b) == s }) {
		t.Errorf("got %q, %v", rows, err)
	}
}

// Config.Path is where the mux serves, and nowhere else.
func TestPath(t *testing.T) {
	for path, want := range map[string]string{"": "/ws/entity-sync/", "/live": "/live"} {
		m := mux.NewRouter()
		nodetest.New(t, es.Config{Mux: m, Path: path})
		server := httptest.NewServer(m)
		for _, p := range []string{want, "/elsewhere"} {
			ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http")+p, nil)
			if (err == nil) != (p == want) {
				t.Errorf("Path %q: connecting at %q returned %v", path, p, err)
			}
			if ws != nil {
				ws.Close()
			}
		}
		server.Close()
	}
}

// What the options say reaches the engine.
func TestOptions(t *testing.T) {
	s := nodetest.Start(t, es.Config{Web: web.Config{Snapshot: true}})
	deadline := make(chan time.Duration, 1)
	err := es.Register(s.EntitySync, "items", func(ctx context.Context, _ shared.EntityKey, _ string) (string, error) {
		end, _ := ctx.Deadline()
		deadline <- time.Until(end)
		return "row", nil
	}, es.WithTimeout(time.Hour), es.WithWorkers(1), es.WithScope(func(string) string { return "" }), es.WithRetry(time.Second, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	ws := socket.Dial(t, s.URL)
	ws.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
	if got := <-deadline; got < 50*time.Minute || got > time.Hour {
		t.Errorf("the fetch had %v, want the hour it was given", got)
	}
	ws.Want(`"row"`)
}

func TestCloseMayBeCalledAgain(t *testing.T) {
	s := nodetest.New(t, es.Config{})
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Notify(t.Context()); err != nil {
		t.Errorf("notifying of nothing: %v", err)
	}
}

// Clients that do not go use up their share of Close's time, not that of the
// bus and the fetch handlers.
func TestCloseReachesTheBusWhateverTheClientsDo(t *testing.T) {
	entered, release := make(chan bool), make(chan bool)
	s, err := es.New(es.Config{
		Logger:        canary.Logger(canary.Output(t)),
		WSPassThrough: func(string, []byte) { entered <- true; <-release },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	defer server.Close()
	socket.Dial(t, server.URL).Send("{}")
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := s.Close(ctx); err == nil || strings.Contains(err.Error(), "bridge") {
		t.Errorf("Close returned %v, want an error about the clients alone", err)
	}
	close(release)
}
