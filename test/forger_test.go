package test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// forger is somebody who can publish on an nsqd, and has no key.
type forger struct {
	t    *testing.T
	nsq  *nsq.Producer
	name func(shared.EntityType) string // of a topic
}

func newForger(t *testing.T, nsqd *nsqdtest.Daemon, topic string) *forger {
	t.Helper()
	p, err := nsq.NewProducer(nsqd.Addr, nsq.NewConfig())
	if err != nil {
		t.Fatal(err)
	}
	p.SetLogger(nil, 0)
	t.Cleanup(p.Stop)
	return &forger{t, p, func(entity shared.EntityType) string {
		if topic != "" {
			return topic
		}
		return string(entity)
	}}
}

func (f *forger) publish(entity shared.EntityType, bodies ...[]byte) {
	f.t.Helper()
	for len(bodies) > 0 {
		n, size := 0, 0
		for n < len(bodies) && (n == 0 || size+len(bodies[n]) < 4<<20) { // of 5 MiB that nsqd takes at once
			size += len(bodies[n])
			n++
		}
		if err := f.nsq.MultiPublish(f.name(entity), bodies[:n]); err != nil {
			f.t.Fatal(err)
		}
		bodies = bodies[n:]
	}
}

const sessions shared.EntityType = "es.sessions"

// text is what a node says on the sessions' topic; without a sender, or as from the
// middle of what somebody has to say.
func text(id, from string) []byte {
	m := map[string]any{"entity": sessions, "id": id}
	if from != "" {
		m["from"], m["seq"] = from, 7
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// closing is an order to end the sessions of a secret.
func closing(code int, secret, id string) string {
	sum := sha256.Sum256([]byte("entity-sync session\x00" + secret))
	return fmt.Sprintf("close %d %s %s", code, base64.RawURLEncoding.EncodeToString(sum[:]), id)
}

// signed is body as docs/operating.md says that a program publishes it.
func signed(key, body string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(body))
	return []byte(strings.TrimSuffix(body, "}") + `,"mac":"` + hex.EncodeToString(mac.Sum(nil)) + `"}`)
}

const (
	earlierKey = "1f0c6e3a5b7d4f0e9a8c2b1d0e3f4a59"
	laterKey   = "a9b8c7d6e5f40312233445566778899f"
)

// Where nodes have a key, a publisher without it can neither announce, nor end sessions, nor
// have nodes look at everything. The same holds while the key is being changed.
func TestAForgerDoesNothingWhereNodesHaveAKey(t *testing.T) {
	t.Parallel()
	for name, topic := range map[string]string{"a topic each": "", "a shared topic": "changes"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nsqd := nsqdtest.Start(t)
			var db database
			var nodes []*node
			var clients []*conn
			for _, keys := range []string{earlierKey + "," + laterKey, laterKey + ", " + earlierKey} {
				n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{SharedTopic: topic}, BusKey: keys})
				c := n.dial(t, "me")
				c.watch("100")
				c.watch("666")
				nodes, clients = append(nodes, n), append(clients, c)
			}
			untilReady(t, nodes...)
			rev := db.write("100")
			nodes[0].notify(t, "100")
			for i, c := range clients {
				c.readUntil(rev)
				testkit.Until(t, "what the node looked at when it joined was fetched", func() bool {
					s := nodes[i].Bridge.Stats()
					return s.FetchesQueued+s.FetchesRunning == 0
				})
			}
			db.write("666") // which nobody announces who has a key

			f := newForger(t, nsqd, topic)
			const body, plain = `{"entity":"items","id":"666"}`, `{"entity":"items","id":"100"}`
			keys := [][]byte{
				[]byte(body), []byte(`{"entity":"items","id":"666","from":"x","seq":1000000}`), []byte(`{"entity":"items","from":"x","seq":2000000}`),
				signed("a key that is none of theirs", body), bytes.Replace(signed(earlierKey, plain), []byte("100"), []byte("666"), 1),
			}
			orders := [][]byte{
				text(closing(wire.CloseRevoked, mark+"me", "one"), ""), text(closing(wire.CloseDisconnected, mark+"me", "two"), "x"), text("again", ""),
				signed("a key that is none of theirs", string(text(closing(wire.CloseRevoked, mark+"me", "three"), ""))),
			}
			f.publish("nobodys", []byte(`{"entity":"nobodys","id":"666"}`), signed("a key that is none of theirs", `{"entity":"nobodys","id":"666"}`)) // is not counted
			f.publish(items, keys...)
			f.publish(sessions, orders...)
			for i, n := range nodes {
				testkit.Until(t, "everything forged is refused", func() bool { return n.Bridge.Stats().Refused == uint64(len(keys)+len(orders)) })
				if s := n.Bridge.Stats(); s.Lost != 0 || s.Resyncs.Lost != 0 || s.BadMessages != 0 {
					t.Errorf("node %d took what was forged: %+v", i, s)
				}
			}
			// What nodes publish is heard, and what a program publishes that has a key.
			for _, n := range nodes {
				rev := db.write("100")
				n.notify(t, "100")
				for _, c := range clients {
					c.readNothingUntil(rev, "666")
				}
			}
			for _, key := range []string{earlierKey, laterKey} {
				rev := db.write("100")
				f.publish(items, signed(key, plain))
				for _, c := range clients {
					c.readNothingUntil(rev, "666")
				}
			}
			for i, n := range nodes {
				if got := n.Bridge.Stats().Refused; got != uint64(len(keys)+len(orders)) {
					t.Errorf("node %d has refused %d messages in the end, want %d", i, got, len(keys)+len(orders))
				}
			}
			if err := nodes[1].Revoke(t.Context(), mark+"me"); err != nil {
				t.Fatal(err)
			}
			for _, c := range clients {
				if code := c.CloseCode(); code != wire.CloseRevoked {
					t.Errorf("a session was closed with %d, want %d", code, wire.CloseRevoked)
				}
			}
		})
	}
}

// What docs/operating.md has a program publish is believed.
func TestTheDocumentedSignatureIsBelieved(t *testing.T) {
	t.Parallel()
	script := docs.Part(t, "docs/operating.md", "```sh\nbody=", "```")
	for _, tool := range []string{"openssl", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the docs' lines cannot be tried, install %s: %v", tool, err)
		}
	}
	nsqd := nsqdtest.Start(t)
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, BusKey: laterKey})
	c := n.dial(t, "me")
	c.watch("100")
	untilReady(t, n)
	rev := db.write("100")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "body="+strings.Replace(script, "127.0.0.1:4151", nsqd.HTTPAddr, 1))
	cmd.Env = append(os.Environ(), "KEY="+laterKey)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.readUntil(rev)
	if n := n.Bridge.Stats().Refused; n > 0 {
		t.Errorf("%d messages were refused", n)
	}
}

// readNothingUntil reads until a revision comes, and no row of an id before it.
func (c *conn) readNothingUntil(rev int, id string) {
	c.t.Helper()
	for r := c.read(); r.Rev < rev || r.ID == id; r = c.read() {
		if r.ID == id {
			c.t.Errorf("got %+v", r)
		}
	}
}

// heapNow is what is in use, in bytes.
func heapNow() int64 {
	for range 2 { // what the first run finds unused in pools, the second lets go
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // not so much
}

// Without a key every publisher can give orders, which docs/security.md says. What orders
// cost is bounded: in memory, in lines of the log, and for clients, who are not kept out.
func TestWhatAForgerCanDoWithoutAKeyIsBounded(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	var db database
	log := new(testkit.Buffer)
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, Web: web.Config{PingInterval: time.Hour}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	untilReady(t, n)
	bystander := n.dial(t, "bystander")
	bystander.watch("100")
	if err := n.Revoke(t.Context(), mark+"nobody"); err != nil { // so that there is one to repeat
		t.Fatal(err)
	}
	f := newForger(t, nsqd, "")

	// Each is heard when what comes after it is: an order about a client of its own.
	last := 0
	settle := func() {
		t.Helper()
		last++
		who := fmt.Sprint("last ", last)
		c := n.dial(t, who)
		c.watch("1")
		f.publish(sessions, text(closing(wire.CloseRevoked, mark+who, "id"+fmt.Sprint(last)), ""))
		if code := c.CloseCode(); code != wire.CloseRevoked {
			t.Fatalf("a session was closed with %d, want %d", code, wire.CloseRevoked)
		}
	}
	settle()
	before, said, begin := heapNow(), len(log.Lines()), time.Now()

	// Dated to the end of time, as orders once were.
	forever := n.dial(t, "forever")
	forever.watch("1")
	order := text(closing(wire.CloseDisconnected, mark+"forever", "9223372036854775807"), "")
	f.publish(sessions, order)
	if code := forever.CloseCode(); code != wire.CloseDisconnected {
		t.Fatalf("a session was closed with %d, want %d", code, wire.CloseDisconnected)
	}
	back := n.dial(t, "forever")
	back.watch("1")
	for range 20 {
		f.publish(sessions, order)
	}
	settle()

	large := make([][]byte, 30)
	for i := range large {
		large[i] = text(closing(wire.CloseRevoked, fmt.Sprint(i), fmt.Sprint(i)+strings.Repeat("x", 1_000_000)), "")
	}
	f.publish(sessions, large...)
	settle()
	var many [][]byte
	for i := range 400 {
		many = append(many, text(closing(wire.CloseRevoked, fmt.Sprint(i), fmt.Sprint(i)), fmt.Sprint("somebody ", i)), text("again", ""))
	}
	for range 2 {
		f.publish(sessions, many...)
		settle()
		time.Sleep(1100 * time.Millisecond) // for strangers to be looked at again, once a second
	}
	settle()

	clear(large)
	clear(many)
	grown := heapNow() - before
	t.Logf("%d KiB more in use, %d lines more", grown>>10, len(log.Lines())-said)
	if grown > 8<<20 {
		t.Errorf("%d KiB more are in use after 30 MB and 800 orders", grown>>10)
	}
	// One in ten seconds that something was looked at again, and one that clients were.
	if more, most := len(log.Lines())-said, 3+int(time.Since(begin)/(10*time.Second)); more > most {
		t.Errorf("the log has %d lines more, want %d at most: %q", more, most, log.Lines()[said:])
	}
	rev := db.write("100")
	n.notify(t, "100")
	bystander.readUntil(rev)
	db.write("1")
	n.notify(t, "1")
	back.read()
}
