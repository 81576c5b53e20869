package client

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/web/wire"
)

// stableAfter is how long a connection must have lasted for the next attempt to count as the
// first. Without it the Client would storm a server that accepts clients and then sends them
// away.
const stableAfter = 5 * time.Second

// maxHint bounds what the server can make the client wait.
const maxHint = 5 * time.Minute

// run connects, again and again, until Close or until the server refuses for good.
func (c *Client) run() {
	defer c.end()
	for failures := 1; ; failures++ {
		lasted, err := c.connect()
		if c.ctx.Err() != nil {
			return
		}
		c.report(err)
		if c.isFinal(err) {
			c.log.Warn("the server refuses; giving up", slog.Any("error", loggable(err)))
			c.giveUp(err)
			return
		}
		if lasted >= stableAfter {
			failures = 1
		}
		state := Offline
		if lasted > 0 {
			state = Connecting
		}
		c.setState(Status{state, err})
		pause := c.pause(err, failures)
		if failures&(failures-1) == 0 { // 1st, 2nd, 4th, 8th …
			c.log.Warn("not connected; trying again", slog.Any("error", loggable(err)), slog.Duration("in", pause), slog.Int("failures", failures))
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// report tells Dial the outcome of the first attempt.
func (c *Client) report(err error) {
	select {
	case c.first <- err:
	default:
	}
}

// pause returns how long to wait before the next attempt.
func (c *Client) pause(err error, failures int) time.Duration {
	delay := c.retry.Delay(failures)
	var upgrade *refusedUpgrade
	if errors.As(err, &upgrade) { // all clients are told the same time, so each adds a random delay
		return min(upgrade.retryAfter, maxHint) + delay
	}
	var bye farewell
	if errors.As(err, &bye) {
		if hint, ok := wire.ParseRetryHint(bye.Text); ok && bye.Code == wire.CloseRestart {
			hint = min(hint, maxHint)
			if failures == 1 { // the hint is random already
				return hint
			}
			return max(hint, delay)
		}
	}
	return delay
}

// connect connects, and serves the connection until it ends. It returns how long ago the
// server had accepted the client, zero if it never did.
func (c *Client) connect() (lasted time.Duration, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.options.ConnectTimeout)
	defer cancel()
	secret, err := c.askSecret(ctx)
	if err == nil {
		err = ctx.Err() // the secret came too late
	}
	if err != nil {
		return 0, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	deadline, _ := ctx.Deadline()
	s := newSession(c, conn)
	err = s.run(secret, deadline)
	if s.letIn.IsZero() {
		return 0, err
	}
	return max(time.Since(s.letIn), 1), err
}

// dial makes the connection, with ctx's deadline on it.
func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	header, err := c.askHeader(ctx)
	if err != nil {
		return nil, err
	}
	dialer, release := c.dialer(ctx)
	conn, response, err := dialer.DialContext(ctx, c.url.String(), header)
	release()
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && response != nil:
		_ = response.Body.Close()
		if response.StatusCode == http.StatusSwitchingProtocols {
			return nil, err
		}
		return nil, &refusedUpgrade{response.StatusCode, retryAfter(response.Header.Get("Retry-After"))}
	case err != nil:
		return nil, err
	case c.ctx.Err() != nil: // release has closed its connection already
		_ = conn.Close()
		return nil, c.ctx.Err()
	case conn.Subprotocol() != wire.SubprotocolV2:
		_ = conn.Close()
		return nil, errNotV2
	}
	return conn, nil
}

// dialer returns the application's dialer for v2. The connection that it opens is closed if
// ctx is cancelled before release, because gorilla waits for an answer until the deadline.
func (c *Client) dialer(ctx context.Context) (d websocket.Dialer, release func()) {
	d = *c.options.Dialer
	d.Subprotocols = []string{wire.SubprotocolV2}
	var stops []func() bool
	guard := func(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
		return func(dialCtx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(dialCtx, network, addr)
			if err == nil {
				stops = append(stops, context.AfterFunc(ctx, func() { _ = conn.Close() }))
			}
			return conn, err
		}
	}
	plain := d.NetDialContext
	if plain == nil && d.NetDial != nil {
		plain = func(_ context.Context, network, addr string) (net.Conn, error) {
			return c.options.Dialer.NetDial(network, addr)
		}
	}
	if plain == nil {
		plain = new(net.Dialer).DialContext
	}
	d.NetDial, d.NetDialContext = nil, guard(plain)
	if d.NetDialTLSContext != nil {
		d.NetDialTLSContext = guard(d.NetDialTLSContext)
	}
	return d, func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// retryAfter reads a Retry-After header: seconds, or a date.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(max(0, min(seconds, math.MaxInt64/int64(time.Second)))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
