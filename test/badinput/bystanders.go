package badinput

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const (
	watchers   = 4 // bystanders
	watched    = 8 // keys that each of them watches
	writeEvery = 10 * time.Millisecond
)

// bystanders are v2 clients who watch some keys that are written all the time, and
// have nothing to do with the abuse.
type bystanders struct {
	node    *node
	work    []byte // see measure
	conns   []*websocket.Conn
	enough  chan struct{} // nothing more is written
	writing sync.WaitGroup
	leaving chan struct{} // they hang up
	reading sync.WaitGroup

	mu      sync.Mutex        // guards what follows
	written map[row]time.Time // when a revision of a key was written
	seen    []map[string]int  // by each bystander, the newest revision of each key
	waits   []time.Duration
	yards   []time.Duration // how long the same work took meanwhile, without the node
	stale   int             // how often a bystander was told that its rows may be out of date
	failed  error
}

// startBystanders connects them, and writes until settle.
func startBystanders(t *testing.T, n *node) *bystanders {
	t.Helper()
	b := &bystanders{
		node: n, work: longest(), enough: make(chan struct{}), leaving: make(chan struct{}),
		written: map[row]time.Time{},
	}
	for range watchers {
		b.seen = append(b.seen, maps.Clone(n.revisions))
	}
	for i := range watchers {
		secret := fmt.Sprint(bystanderPrefix, i)
		dialer := websocket.Dialer{Subprotocols: []string{string(v2)}, HandshakeTimeout: patience}
		conn, _, err := dialer.Dial("ws://"+n.addr+path, http.Header{"Authorization": {secret}})
		if err != nil {
			t.Fatal(err)
		}
		b.conns = append(b.conns, conn)
		if !b.introduce(conn, secret) {
			t.Fatal("a bystander could not subscribe")
		}
		b.reading.Go(func() { b.read(i, conn, secret) })
	}
	b.writing.Go(b.write)
	t.Cleanup(b.leave)
	return b
}

// introduce says who a bystander is, and what it watches.
func (b *bystanders) introduce(conn *websocket.Conn, secret string) bool {
	var keys []any
	for i := range watched {
		keys = append(keys, map[string]any{"entity": items, "id": idOf(i)})
	}
	said := conn.WriteJSON(map[string]any{"action": "secret", "body": secret})
	return errors.Join(said, conn.WriteJSON(map[string]any{"action": "subscribe", "body": keys})) == nil
}

func idOf(i int) string { return fmt.Sprint("bystanders' ", i) }

// write writes one key after the other.
func (b *bystanders) write() {
	ticks := time.NewTicker(writeEvery)
	defer ticks.Stop()
	for i := 0; ; i++ {
		select {
		case <-b.enough:
			return
		case <-ticks.C:
		}
		id := idOf(i % watched)
		b.mu.Lock()
		b.node.revisions[id]++
		r := row{ID: id, Rev: b.node.revisions[id]}
		b.written[r] = time.Now()
		b.mu.Unlock()
		if _, err := ask[struct{}](b.node, "write", r); err != nil {
			b.fail(fmt.Errorf("writing: %w", err))
			return
		}
		if i%8 == 0 {
			b.measure()
		}
	}
}

// read notes when each revision arrives: the first that is as new counts.
func (b *bystanders) read(i int, conn *websocket.Conn, secret string) {
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			select {
			case <-b.leaving:
			default:
				b.fail(fmt.Errorf("bystander %d: %w", i, err))
			}
			return
		}
		now := time.Now()
		var m struct {
			Action string
			Body   struct{ Rows []row }
		}
		err = json.Unmarshal(message, &m)
		switch {
		case err == nil && m.Action == "ack":
		case err == nil && m.Action == "update" && len(m.Body.Rows) == 1 && m.Body.Rows[0].For == secret:
			b.arrived(i, m.Body.Rows[0], now)
		case err == nil && m.Action == "stale":
			b.wasStale()
		case err == nil && m.Action == "fresh":
		default:
			b.fail(fmt.Errorf("bystander %d got %.200s", i, message))
		}
	}
}

func (b *bystanders) arrived(i int, r row, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Rev < b.seen[i][r.ID] {
		b.failed = errors.Join(b.failed, fmt.Errorf("bystander %d went back from %d to %d", i, b.seen[i][r.ID], r.Rev))
	}
	for rev := b.seen[i][r.ID] + 1; rev <= r.Rev; rev++ {
		b.waits = append(b.waits, now.Sub(b.written[row{ID: r.ID, Rev: rev}]))
		b.seen[i][r.ID] = rev
	}
}

func (b *bystanders) wasStale() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stale++
}

// staleTimes returns how often a bystander was told that its rows may be out of date.
func (b *bystanders) staleTimes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stale
}

func (b *bystanders) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = errors.Join(b.failed, err)
}

// measure notes how long a piece of work takes just now.
func (b *bystanders) measure() {
	begin := time.Now()
	for range 4 {
		json.Valid(b.work)
	}
	took := time.Since(begin)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.yards = append(b.yards, took)
}

// take returns how long the changes took that have arrived since the last time, and the
// same work meanwhile.
func (b *bystanders) take() (waits, yards []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	waits, yards = b.waits, b.yards
	b.waits, b.yards = nil, nil
	slices.Sort(yards)
	return waits, yards
}

// settle stops writing, and returns when every bystander has the last revision of
// every key.
func (b *bystanders) settle(t *testing.T) {
	t.Helper()
	close(b.enough)
	b.writing.Wait()
	for end := time.Now().Add(patience); !b.settled(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the bystanders have %v, want %v", b.seen, b.node.revisions)
		}
	}
}

func (b *bystanders) settled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, seen := range b.seen {
		for id, rev := range b.node.revisions {
			if seen[id] != rev {
				return false
			}
		}
	}
	return true
}

// leave ends them all.
func (b *bystanders) leave() {
	select {
	case <-b.enough:
	default: // the test has failed before
		close(b.enough)
	}
	b.writing.Wait()
	close(b.leaving)
	for _, conn := range b.conns {
		conn.Close()
	}
	b.reading.Wait()
}

// p99 is what all but one in a hundred wait less than.
func p99(waits []time.Duration) time.Duration {
	if len(waits) == 0 {
		return 0
	}
	slices.Sort(waits)
	return waits[(len(waits)*99-1)/100]
}
