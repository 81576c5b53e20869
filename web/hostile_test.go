package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
	"github.com/entity-sync/entity-sync/web/wire"
)

// counted is rows that tell how often they were changed, and whose they are.
type counted struct {
	n   [4]atomic.Int64 // by id
	pad string
}

func (c *counted) fetch(_ context.Context, k shared.EntityKey, secret string) ([][]byte, error) {
	n := c.n[k.ID[0]-'0'].Load()
	return [][]byte{fmt.Appendf(nil, `{"n":%d,"for":%q,"pad":%q}`, n, secret, c.pad[:int(n*7919)%len(c.pad)])}, nil
}

// asked is what a request, once it is acknowledged, makes of what a client may be sent.
type asked struct {
	secret *string
	id     string
	watch  bool
}

// rude is a client that speaks v2 in pieces, with pings and pongs between them, and
// checks everything that it is sent.
type rude struct {
	*websocket.Conn
	random *rand.Rand // of what it says

	mu      sync.Mutex
	pending []asked // not acknowledged yet
	latest  map[string]int64
	wrong   error
	ended   chan struct{}
}

func dialRude(url string, seed uint64) (*rude, error) {
	dialer := websocket.Dialer{Subprotocols: []string{wire.SubprotocolV2}, NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return c, err
	}}
	ws, _, err := dialer.Dial(url, nil)
	if err != nil {
		return nil, err
	}
	r := &rude{Conn: ws, random: rand.New(rand.NewPCG(seed, 1)), latest: map[string]int64{}, ended: make(chan struct{})}
	ws.SetPingHandler(func(string) error { return nil }) // it says pong where it likes
	go r.listen(rand.New(rand.NewPCG(seed, 2)))
	return r, nil
}

// listen reads until the connection ends, or is not as it should be.
func (r *rude) listen(pauses *rand.Rand) {
	defer close(r.ended)
	secret, watched, count := "", map[string]bool{}, map[string]int64{}
	for {
		if pauses.IntN(50) == 0 {
			time.Sleep(time.Duration(pauses.IntN(20)) * time.Millisecond)
		}
		_, message, err := r.ReadMessage()
		if err != nil {
			return
		}
		if err := r.check(message, &secret, watched, count); err != nil {
			r.mu.Lock()
			r.wrong = err
			r.mu.Unlock()
			r.Conn.Close()
			return
		}
	}
}

func (r *rude) check(message []byte, secret *string, watched map[string]bool, count map[string]int64) error {
	var frame struct {
		Action string
		Body   struct {
			ID   string
			Code string
			Rows []struct {
				N   int64
				For string
			}
		}
	}
	if err := json.Unmarshal(message, &frame); err != nil {
		return fmt.Errorf("%.100q: %w", message, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch frame.Action {
	case "ack":
		if len(r.pending) == 0 {
			return errors.New("an ack of nothing")
		}
		a := r.pending[0]
		r.pending = r.pending[1:]
		if a.secret != nil {
			*secret = *a.secret
		} else {
			watched[a.id] = a.watch
		}
	case "update":
		id := frame.Body.ID
		switch row := frame.Body.Rows[0]; {
		case row.For != *secret:
			return fmt.Errorf("a row for %q, where the client is %q", row.For, *secret)
		case !watched[id]:
			return fmt.Errorf("a row of %q, which is not watched", id)
		case row.N < count[id]:
			return fmt.Errorf("row %q goes back from %d to %d", id, count[id], row.N)
		default:
			count[id], r.latest[id] = row.N, row.N
		}
	case "fresh", "stale", "current":
	default:
		return fmt.Errorf("%.200q is not expected", message)
	}
	return nil
}

// clientFrame is as clients send it, masked with zeros.
func clientFrame(final bool, opcode byte, payload []byte) []byte {
	if final {
		opcode |= 0x80
	}
	b := []byte{opcode, 0x80 | byte(len(payload))}
	if len(payload) > 125 {
		b = []byte{opcode, 0x80 | 126, byte(len(payload) >> 8), byte(len(payload))}
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// disturb returns nothing, or a ping or pong.
func (r *rude) disturb() []byte {
	switch r.random.IntN(4) {
	case 0:
		return clientFrame(true, websocket.PingMessage, bytes.Repeat([]byte("x"), r.random.IntN(126)))
	case 1:
		return clientFrame(true, websocket.PongMessage, bytes.Repeat([]byte("y"), r.random.IntN(126)))
	}
	return nil
}

// say sends a text in fragments, disturbed, over several packets.
func (r *rude) say(text string) error {
	all, opcode := r.disturb(), byte(websocket.TextMessage)
	for rest := []byte(text); opcode != 0 || len(rest) > 0; opcode = 0 {
		n := len(rest)
		if r.random.IntN(2) == 0 {
			n = r.random.IntN(n + 1)
		}
		all = slices.Concat(all, clientFrame(n == len(rest), opcode, rest[:n]), r.disturb())
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
	}
	return r.trickle(all)
}

// trickle writes what is to be sent in several pieces.
func (r *rude) trickle(all []byte) error {
	for len(all) > 0 {
		n := len(all)
		if r.random.IntN(2) == 0 {
			n = 1 + r.random.IntN(n)
		}
		if _, err := r.NetConn().Write(all[:n]); err != nil {
			return err
		}
		all = all[n:]
		if r.random.IntN(4) == 0 {
			time.Sleep(time.Duration(r.random.IntN(3)) * time.Millisecond)
		}
	}
	return nil
}

func (r *rude) ask(a asked) error {
	text := fmt.Sprintf(`{"action":"unsubscribe","body":{"entity":"items","id":%q}}`, a.id)
	switch {
	case a.secret != nil:
		text = fmt.Sprintf(`{"action":"secret","body":%q}`, *a.secret)
	case a.watch:
		text = strings.Replace(text, "unsubscribe", "subscribe", 1)
	}
	r.mu.Lock()
	r.pending = append(r.pending, a)
	r.mu.Unlock()
	return r.say(text)
}

func (r *rude) askAnything() error {
	if r.random.IntN(4) == 0 {
		secret := fmt.Sprint(mark, r.random.IntN(3))
		return r.ask(asked{secret: &secret})
	}
	return r.ask(asked{id: fmt.Sprint(r.random.IntN(4)), watch: r.random.IntN(3) > 0})
}

// vanish ends the connection in some bad way or other.
func (r *rude) vanish() {
	tcp, _ := r.NetConn().(*net.TCPConn)
	switch r.random.IntN(5) {
	case 0: // with a reset
		_ = tcp.SetLinger(0)
	case 1: // in the midst of a frame
		_, _ = tcp.Write(clientFrame(true, websocket.TextMessage, []byte(`{"action":`))[:1+r.random.IntN(10)])
	case 2: // breaking the protocol
		_, _ = tcp.Write([]byte{0xff, 0xff})
		time.Sleep(time.Duration(r.random.IntN(5)) * time.Millisecond)
	case 3: // as one should, in two parts, and without waiting for the answer
		_, _ = tcp.Write([]byte{0x88})
		_, _ = tcp.Write([]byte{0x80, 0, 0, 0, 0})
	}
	r.Conn.Close()
	<-r.ended
}

func (r *rude) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrong
}

// cramped is a server whose kernel holds little of what goes to a client, once little
// has been called with the client's address.
func cramped(h http.Handler) (server *httptest.Server, little func(client net.Addr) error) {
	var conns sync.Map
	server = httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(c net.Conn, _ http.ConnState) { conns.Store(c.RemoteAddr().String(), c) }
	server.Start()
	return server, func(client net.Addr) error {
		c, _ := conns.Load(client.String())
		return c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
}

// However clients send their frames, come and go, whatever changes meanwhile: each is
// sent what it watches, for the secret it has, never backwards, in whole frames; and
// in the end the newest.
func TestRudeClients(t *testing.T) {
	rows := &counted{pad: strings.Repeat("p", 20_000)}
	s := start(t, web.Config{PingInterval: 20 * time.Millisecond, PongWait: patience, MessageRate: 1 << 20, SubscribeRate: 1 << 20}, rows.fetch)
	server, little := cramped(s.handler)
	defer server.Close()
	url := "ws" + strings.TrimPrefix(server.URL, "http")
	stop := make(chan struct{})
	var changes, clients sync.WaitGroup
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			rows.n[i%4].Add(1)
			if err := s.bridge.Notify(context.Background(), shared.EntityKey{Entity: items, ID: fmt.Sprint(i % 4)}); err != nil {
				t.Error(err)
			}
		}
	})
	const many, lives, requests = 6, 3, 15
	last := make(chan *rude, many) // in their last lives
	for i := range many {
		clients.Go(func() {
			for life := range lives {
				r, err := dialRude(url, uint64(i*lives+life))
				if err != nil {
					t.Error(err)
					return
				}
				err = errors.Join(r.ask(asked{id: "0"}), r.answered(), little(r.LocalAddr()))
				for range requests {
					if err == nil {
						err = r.askAnything()
					}
				}
				if err := errors.Join(err, r.why()); err != nil {
					t.Error(err)
				}
				if life == lives-1 {
					last <- r
					return
				}
				r.vanish()
			}
		})
	}
	clients.Wait()
	close(last)
	var staying []*rude
	for r := range last {
		staying = append(staying, r)
		for i := range rows.n {
			if err := r.ask(asked{id: fmt.Sprint(i), watch: true}); err != nil {
				t.Error(err)
			}
		}
		if err := r.answered(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	changes.Wait()
	for _, r := range staying {
		if err := r.isUpToDate(rows); err != nil {
			t.Error(err)
		}
		r.vanish()
	}
	testkit.Until(t, "all are gone", func() bool { return s.bridge.Stats().Clients == 0 })
}

// answered waits until all that was asked is acknowledged.
func (r *rude) answered() error {
	return r.wait("answers", func() int { return len(r.pending) })
}

// isUpToDate waits until the client has everything as it is now.
func (r *rude) isUpToDate(rows *counted) error {
	return r.wait("rows", func() (behind int) {
		for i := range rows.n {
			if r.latest[fmt.Sprint(i)] != rows.n[i].Load() {
				behind++
			}
		}
		return behind
	})
}

func (r *rude) wait(what string, missing func() int) error {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		n, wrong := missing(), r.wrong
		r.mu.Unlock()
		switch {
		case n == 0 || wrong != nil:
			return wrong
		case time.Now().After(end):
			return fmt.Errorf("%d %s are missing", n, what)
		}
	}
}
