package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/internal/testkit/process"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
	"github.com/entity-sync/entity-sync/web"
)

// sleeperRole is that of a process which is a node on an nsqd.
const sleeperRole = "sleeper"

// How the node asks whether its clients are there. The longest that a client which is
// gone is kept is not quite twice their sum.
const (
	sleeperPing = time.Second
	sleeperPong = 3 * time.Second
)

func beSleeper(nsqd string) error {
	node, err := es.New(es.Config{
		NSQAddr: nsqd, Logger: canary.Logger(os.Stderr),
		Web: web.Config{PingInterval: sleeperPing, PongWait: sleeperPong, RequireSecret: true, SecretTimeout: sleeperPong, MessageRate: 1000},
	})
	if err != nil {
		return err
	}
	var db database
	if err := es.Register(node, items, db.fetch); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { // until the process ends
		<-process.Terminated()
		os.Exit(0)
	}()
	for !node.Bridge.Ready() {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(listener.Addr())
	return http.Serve(listener, node)
}

// startSleeper starts a node as a process of its own, which says its address.
func startSleeper(t *testing.T, nsqd string) *process.Process {
	t.Helper()
	p, err := process.Start(sleeperRole, nsqd, process.Options{Output: canary.Output(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.End(t, syscall.SIGKILL) }) // which is how it ends
	return p
}

// onlooker is a client that answers pings and reads what comes.
type onlooker struct {
	*websocket.Conn
	mu   sync.Mutex
	rows int
	err  error
}

func (o *onlooker) listen() {
	for {
		_, message, err := o.ReadMessage()
		o.mu.Lock()
		switch {
		case err != nil:
			o.err = err
			o.mu.Unlock()
			return
		case json.Valid(message):
			o.rows++
		}
		o.mu.Unlock()
	}
}

func (o *onlooker) seen() (rows int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rows, o.err
}

// A node is stopped for longer than its clients may be silent, as by a machine that
// sleeps. All that are there go on over the connections that they have: those that were
// asked before, those that were not, one that was in the midst of a message, and one that
// had just said its first secret. Of two that are gone, neither is kept.
func TestANodeThatSleptKeepsItsClients(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	sleeper := startSleeper(t, nsqd.Addr)
	dial := func() *socket.Conn { return socket.Dial(t, "ws://"+sleeper.Hello+"/ws/entity-sync/") }
	const subscribe = `{"action":"subscribe","body":{"entity":"items","id":"100","snapshot":true}}`

	var all []*onlooker
	var listening sync.WaitGroup
	t.Cleanup(listening.Wait) // after they are closed
	listen := func(c *socket.Conn) *onlooker {
		o := &onlooker{Conn: c.Conn}
		all = append(all, o)
		listening.Go(o.listen)
		t.Cleanup(func() { c.Close() })
		return o
	}
	for i := range 100 {
		c := dial()
		c.Secret(fmt.Sprint(mark, i))
		c.Send(subscribe)
		listen(c)
	}
	for _, o := range all {
		testkit.Until(t, "all have a row", func() bool { n, err := o.seen(); return n > 0 || err != nil })
	}
	gone := []*socket.Conn{dial(), dial()} // neither reads, and so neither answers
	gone[0].Secret(mark + "gone")
	gone[0].Send(subscribe)
	gone[1].Secret(mark + "gone, too")
	midst := dial()
	midst.Secret(mark + "midst")
	midst.Send(subscribe)
	halves := wsFrame(subscribe)
	if _, err := midst.NetConn().Write(halves[:10]); err != nil {
		t.Fatal(err)
	}
	late := dial()

	sleeper.Freeze(t)
	late.Secret(mark + "late")
	if _, err := midst.NetConn().Write(halves[10:]); err != nil {
		t.Fatal(err)
	}
	time.Sleep(sleeperPing + sleeperPong + 2*time.Second) // what is tested
	sleeper.Thaw(t)
	woken := time.Now()
	listen(midst)
	late.Send(subscribe)
	listen(late)

	other := nodetest.New(t, es.Config{NSQAddr: nsqd.Addr})
	if err := es.Announces(other, items); err != nil {
		t.Fatal(err)
	}
	before := make([]int, len(all))
	for i, o := range all {
		testkit.Until(t, "all have a row", func() bool { n, err := o.seen(); before[i] = n; return n > 0 || err != nil })
	}
	for _, c := range gone {
		var err error
		_ = c.SetReadDeadline(time.Now().Add(patience))
		for err == nil { // it ends without a word
			_, err = c.NetConn().Read(make([]byte, 1<<10))
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("a client that is gone is still connected %v after the node went on", time.Since(woken))
		}
	}
	var said time.Time
	for i, o := range all {
		testkit.Until(t, "all have another row, or are cut off", func() bool {
			// Again and again: the node may still be on its way back to the bus.
			if time.Since(said) > time.Second {
				said = time.Now()
				if err := other.Notify(t.Context(), item("100")); err != nil {
					t.Fatal(err)
				}
			}
			n, err := o.seen()
			return n > before[i] || err != nil
		})
		if _, err := o.seen(); err != nil {
			t.Errorf("client %d was cut off: %v", i, err)
		}
	}
}

// wsFrame is a text frame of a client's, masked with zeros.
func wsFrame(text string) []byte {
	return append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
}
