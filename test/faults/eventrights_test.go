package faults

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit/socket"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// The application's authorizer is down, slow, or well by turns, at random. It lets a client whose
// secret is good do what it asks for, while it is well. Each request is answered, and what is asked
// of an authorizer that is ill, or for another secret, is never allowed.
func TestEV5TheAuthorizerIsDownSlowAndFlapping(t *testing.T) {
	random := randomFor(t)
	var ill, slow atomic.Bool
	var allowed, asked atomic.Int64
	_, nodes := eventNodes(t, es.Config{
		Authorize: func(ctx context.Context, a shared.AccessRequest) error {
			asked.Add(1)
			if slow.Load() {
				time.Sleep(5 * time.Millisecond)
			}
			switch {
			case ill.Load():
				return errors.New("the authorizer is ill")
			case strings.HasPrefix(a.Secret.Reveal(), "bad"):
				return shared.ErrForbidden
			}
			allowed.Add(1)
			return nil
		},
		VerifySecret: func(context.Context, string) (expires time.Time, err error) { return expires, nil },
	}, es.ClientsPublish())
	clients := map[string][]*socket.Conn{}
	for i := range 6 {
		secret := []string{"good", "bad"}[i%2]
		c := socket.DialV2(t, nodes[i/2%2].URL)
		c.Send(`{"action":"secret","ref":0,"body":%q}`, secret)
		c.WantReply("ack 0")
		clients[secret] = append(clients[secret], c)
	}
	answer := func(c *socket.Conn, text string) wire.Code {
		c.Send("%s", text)
		code := wire.Code("")
		for {
			r := c.Reply()
			switch {
			case r.Action == wire.ActionError:
				code = r.Code
				if strings.Contains(text, "publish") {
					return code
				}
			case r.Action == wire.ActionAck:
				return code
			case r.Action == wire.ActionEvent && code != "":
				t.Errorf("got %s though the subscription was refused", socket.Line(r))
			}
		}
	}
	requests := []string{`{"action":"subscribe","ref":1,"body":{"topic":"news"}}`, `{"action":"publish","ref":1,"body":{"topic":"news"}}`}
	for range sized(60, 600) {
		ill.Store(random.IntN(2) == 0)
		slow.Store(random.IntN(4) == 0)
		request := requests[random.IntN(len(requests))]
		for secret, all := range clients {
			want := wire.Code("")
			switch {
			case ill.Load():
				want = wire.CodeUnavailable
			case secret == "bad":
				want = wire.CodeForbidden
			}
			c := all[random.IntN(len(all))]
			if got := answer(c, request); got != want {
				t.Fatalf("%s of a client whose secret is %s, with an authorizer that is ill (%v): %q, want %q", request, secret, ill.Load(), got, want)
			}
			c.Send(`{"action":"unsubscribe","ref":2,"body":{"topic":"news"}}`)
			c.Until("the end of the subscription", func(r wire.Reply) bool { return string(r.Ref) == "2" })
		}
	}
	if allowed.Load() == 0 || asked.Load() == allowed.Load() {
		t.Errorf("the authorizer allowed %d of %d", allowed.Load(), asked.Load())
	}
}
