package web_test

import (
	"context"
	"errors"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/web"
)

// Clients are sent away over a while, each with a hint when to come back, and none
// is forgotten.
func TestManyClientsAreSentAwayOneAfterTheOther(t *testing.T) {
	s := start(t, web.Config{}, echo)
	const n = 150
	var wg sync.WaitGroup
	var mu sync.Mutex
	var gone []time.Time
	hint := regexp.MustCompile(`^restarting; retry in \d{1,3} ms$`)
	for range n {
		c := s.dialV2(t)
		c.Send(`{"action":"subscribe","body":{"entity":"items","id":"1"}}`)
		c.WantReply("ack")
		c.WantReply(`update items 1 {"id":"1","for":""}`)
		wg.Go(func() {
			c.SetReadDeadline(time.Now().Add(patience))
			_, _, err := c.ReadMessage()
			mu.Lock()
			defer mu.Unlock()
			gone = append(gone, time.Now())
			var closed *websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != websocket.CloseServiceRestart || !hint.MatchString(closed.Text) {
				t.Errorf("a client is sent away with %v", err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	if err := s.handler.Close(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if len(gone) != n {
		t.Errorf("%d of %d were told", len(gone), n)
	}
	late := 0
	for _, at := range gone {
		if at.Sub(begin) > 100*time.Millisecond {
			late++
		}
	}
	if late < n/4 {
		t.Errorf("%d of %d were told later than 100 ms after the first, want them spread over 300 ms", late, n)
	}
}
