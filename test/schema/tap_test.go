package schema

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/web/js"
	"github.com/entity-sync/entity-sync/web/wire"
)

// record is what was said in conversations.
type record struct {
	mu       sync.Mutex
	said     [2]map[string]any // by the clients and by the nodes: each text once, and its value
	provoked map[string]bool   // what clients said for the answer alone
}

const (
	byClient = iota
	byNode
)

func newRecord() *record {
	return &record{said: [2]map[string]any{{}, {}}, provoked: make(map[string]bool)}
}

// ignore has what a client will say not be noted.
func (r *record) ignore(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.provoked[text] = true
}

func (r *record) note(by int, text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.said[by][text]; known || r.provoked[text] {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	r.said[by][text] = value
	return err
}

// tap is a proxy that notes what the clients of a node and the node say.
type tap struct {
	*httptest.Server
	t      *testing.T
	node   string // its URL
	record *record
	pumps  sync.WaitGroup

	mu    sync.Mutex
	conns []*websocket.Conn
	said  strings.Builder // by the clients of this tap
}

// listen puts a tap before a node until the test ends.
func listen(t *testing.T, n *nodetest.Node, r *record) *tap {
	t.Helper()
	p := &tap{t: t, node: "ws" + strings.TrimPrefix(n.URL, "http"), record: r}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws/entity-sync/", p.connect)
	mux.Handle("/entity-sync/", http.StripPrefix("/entity-sync", js.Handler()))
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><meta charset=utf-8><title>A page</title>"))
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		p.Close()
		p.cut()
		p.pumps.Wait()
	})
	return p
}

// url is where clients connect.
func (p *tap) url() string { return p.URL + "/ws/entity-sync/" }

func (p *tap) connect(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolV2}}
	client, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	dialer := websocket.Dialer{Subprotocols: upgrader.Subprotocols}
	node, response, err := dialer.Dial(p.node, nil)
	if response != nil {
		_ = response.Body.Close() // nothing, or what the connection has read of it
	}
	if err != nil {
		p.t.Error(err)
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, node)
	p.mu.Unlock()
	p.pumps.Go(func() { p.pump(client, node, byClient) })
	p.pumps.Go(func() { p.pump(node, client, byNode) })
}

// pump hands on what one end says, until either has ended.
func (p *tap) pump(from, to *websocket.Conn, by int) {
	defer from.Close()
	defer to.Close()
	for {
		kind, text, err := from.ReadMessage()
		if err != nil {
			return
		}
		if kind != websocket.TextMessage {
			p.t.Errorf("a message of type %d", kind)
		}
		p.note(by, text)
		if err := p.record.note(by, string(text)); err != nil {
			p.t.Errorf("%s: %v", text, err)
		}
		if to.WriteMessage(kind, text) != nil {
			return
		}
	}
}

func (p *tap) note(by int, text []byte) {
	if by == byClient {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.said.Write(text)
	}
}

// hears reports whether a client of this tap has said something that holds a text.
func (p *tap) hears(part string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.said.String(), part)
}

// cut breaks all connections.
func (p *tap) cut() {
	p.mu.Lock()
	conns := slices.Clone(p.conns)
	p.conns = nil
	p.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
}
