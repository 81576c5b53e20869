package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/web/wire"
)

// What ends a client depends on whether it has other credentials to offer.
func TestWhatIsFinal(t *testing.T) {
	const never, fixed, always = 0, 1, 2 // fixed: for who has no others
	secret := func(code string) error { return refusedSecret{&Error{Code: code}} }
	closed := func(code int) error { return farewell{&websocket.CloseError{Code: code}} }
	for err, want := range map[error]int{
		io.EOF: never, errNotV2: never, &callbackError{"SecretFunc", io.EOF}: never,
		&refusedUpgrade{status: 401}: fixed, &refusedUpgrade{status: 403}: always,
		&refusedUpgrade{status: 400}: never, &refusedUpgrade{status: 404}: never, &refusedUpgrade{status: 429}: never, &refusedUpgrade{status: 503}: never,
		secret("unauthenticated"): fixed, secret("forbidden"): always, secret("bad_message"): always, secret("unavailable"): never,
		closed(1000): never, closed(1002): always, closed(1012): never, closed(wire.CloseExpired): never, closed(wire.CloseRevoked): always,
	} {
		for name, c := range map[string]*Client{
			"a fixed secret": {},
			"a SecretFunc":   {options: Options{SecretFunc: func(context.Context) (string, error) { return "", nil }}},
			"a Header":       {options: Options{Header: func(context.Context) (http.Header, error) { return nil, nil }}},
		} {
			got := c.isFinal(fmt.Errorf("doing it: %w", err))
			if expected := want == always || want == fixed && name == "a fixed secret"; got != expected {
				t.Errorf("with %s %q is final: %v, want %v", name, err, got, expected)
			}
		}
	}
}

// The server's word goes before the random pause, within reason.
func TestPauses(t *testing.T) {
	c := &Client{retry: backoff.Policy{Min: time.Second, Max: 8 * time.Second}}
	restarting := func(reason string) error {
		return farewell{&websocket.CloseError{Code: websocket.CloseServiceRestart, Text: reason}}
	}
	for _, p := range []struct {
		err       error
		failures  int
		from, to  time.Duration
		rationale string
	}{
		{io.EOF, 1, 0, time.Second, "the first"},
		{io.EOF, 100, 0, 8 * time.Second, "at most"},
		{restarting("restarting; retry in 417 ms"), 1, 417 * time.Millisecond, 417 * time.Millisecond, "as told"},
		{restarting("restarting; retry in 417 ms"), 9, 417 * time.Millisecond, 8 * time.Second, "told again and again"},
		{restarting("restarting; retry in 99999999999 ms"), 1, maxHint, maxHint, "too long"},
		{restarting("restarting; retry in -5 ms"), 1, 0, time.Second, "nonsense"},
		{restarting("restarting"), 1, 0, time.Second, "nothing told"},
		{&refusedUpgrade{503, 5 * time.Second}, 1, 5 * time.Second, 6 * time.Second, "full"},
		{&refusedUpgrade{503, 1000 * time.Hour}, 1, maxHint, maxHint + time.Second, "full for long"},
		{errors.Join(io.EOF, &refusedUpgrade{429, time.Second}), 1, time.Second, 2 * time.Second, "too many"},
	} {
		for range 100 {
			if got := c.pause(p.err, p.failures); got < p.from || got > p.to {
				t.Fatalf("%s: a pause of %v, want %v to %v", p.rationale, got, p.from, p.to)
			}
		}
	}
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "99999999999999": 9223372036 * time.Second, "Mon, 02 Jan 2006 15:04:05 GMT": 0} {
		if got := retryAfter(text); got != want {
			t.Errorf("Retry-After %q is %v, want %v", text, got, want)
		}
	}
	if got := retryAfter(time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)); got < 50*time.Second || got > time.Minute {
		t.Errorf("in a minute is %v", got)
	}
}
