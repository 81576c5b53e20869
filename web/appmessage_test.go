package web_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// An application's own messages are answered, later too, on both wires.
func TestOwnMessagesAreAnswered(t *testing.T) {
	var mu sync.Mutex
	var sessions []web.Session
	s := start(t, web.Config{OnMessage: func(c web.Session, message []byte) {
		mu.Lock()
		sessions = append(sessions, c)
		mu.Unlock()
		switch string(message) {
		case `{"bye":1}`:
			for _, code := range []int{1006, 999, 1002, 5000} {
				if err := c.Close(code, ""); err == nil {
					t.Errorf("closed with %d", code)
				}
			}
			if err := c.Close(4000, strings.Repeat("x", 124)); err == nil {
				t.Error("closed with too long a reason")
			}
			if err := c.Close(4000, "as you wish"); err != nil {
				t.Error(err)
			}
			if err := c.Send([]byte("too late")); !errors.Is(err, shared.ErrClosed) {
				t.Errorf("sending after Close returned %v, want ErrClosed", err)
			}
		default:
			if err := c.Send([]byte{0xff}); err == nil {
				t.Error("sent what is not UTF-8")
			}
			if err := c.Send(fmt.Appendf(nil, "%s from %s at %s", message, c.Secret(), c.Remote())); err != nil {
				t.Error(err)
			}
		}
	}}, echo)
	for _, c := range []*conn{s.dial(t), s.dialV2(t)} {
		c.Send(`{"action":"secret","body":"` + mark + `me"}`)
		if c.Subprotocol() != "" {
			c.WantReply("ack")
		}
		c.Send(`{"hello":1}`)
		c.Want(`{"hello":1} from ` + mark + `me at 127.0.0.1`)
		mu.Lock()
		session := sessions[len(sessions)-1]
		mu.Unlock()
		if err := session.Send([]byte(`"later"`)); err != nil {
			t.Error(err)
		}
		c.Want(`"later"`)
		c.Send(`{"bye":1}`)
		c.WantClose(4000)
	}
}
