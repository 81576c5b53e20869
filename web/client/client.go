package client

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/url"
	"sync"

	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/internal/conflate"
	"github.com/entity-sync/entity-sync/shared"
)

// Client is a connection to an Entity Sync server that is made again whenever it
// is lost. Its methods may be called from any goroutine.
type Client struct {
	url     *url.URL
	options Options // without the secret
	secret  shared.Secret
	retry   backoff.Policy
	log     *slog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	first  chan error // the outcome of the first attempt
	status conflate.Value[Status]

	mu       sync.Mutex // guards what follows, and every entry; taken before a Value's own
	state    State
	session  *session // the connection, once the server has accepted the client
	entries  map[shared.EntityKey]*entry
	topics   map[shared.Topic]*topicEntry
	numbered uint64
	denied   error // why the server was given up
	ended    bool  // the Client was closed, or gave the server up
}

// New returns a Client that connects by itself, even if the server is not there yet. It
// returns an error for a bad URL (ws, wss, http or https) or bad Options.
func New(url string, o Options) (*Client, error) {
	u, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("client: Options: %w", err)
	}
	c := &Client{url: u, secret: shared.NewSecret(o.Secret), first: make(chan error, 1), entries: make(map[shared.EntityKey]*entry), topics: make(map[shared.Topic]*topicEntry)}
	c.options = o.withDefaults()
	c.options.Secret = ""
	c.retry = backoff.Policy{Min: c.options.RetryMin, Max: c.options.RetryMax}
	c.log = c.options.Logger.With(slog.String("server", u.Host))
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.status.Put(Status{})
	c.work.Go(c.run)
	return c, nil
}

// Dial is New for programs that want to know at once whether they are connected: it waits for
// the first attempt, no longer than ctx allows, and returns the attempt's error, such as that
// no server is there or that the secret was refused. It does not wait for a SecretFunc or
// Header that goes on after ctx has ended. Once Dial has returned a Client, ctx means nothing
// to it, and the Client connects again by itself when the connection is lost.
func Dial(ctx context.Context, url string, o Options) (*Client, error) {
	c, err := New(url, o)
	if err != nil {
		return nil, err
	}
	select {
	case err = <-c.first:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		c.cancel()
		for range c.Statuses(ctx) { // until the Client or ctx has ended
		}
		if ctx.Err() == nil {
			c.work.Wait()
		}
		return nil, fmt.Errorf("client: connecting to %s: %w", c.url.Host, err)
	}
	return c, nil
}

// Status returns the state of the connection, and a channel that is closed once the state
// changes, or cannot change any more.
func (c *Client) Status() (s Status, changed <-chan struct{}) {
	c.mu.Lock() // a change is seen in full or not at all
	defer c.mu.Unlock()
	return c.status.Newest()
}

// Statuses yields the state of the connection and then its changes; a slow caller sees the
// newest. It ends with ctx, Close, and after Denied.
func (c *Client) Statuses(ctx context.Context) iter.Seq[Status] { return c.status.All(ctx) }

// Close says goodbye to the server and waits for the Client's goroutines. That takes up to a
// second if the server does not answer, and as long as SecretFunc, Header and OnMessage take
// to return. Every loop over updates ends. Close may be called again.
func (c *Client) Close() {
	c.cancel()
	c.work.Wait()
}

// end ends the Client's states and updates: none follows.
func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.denied == nil {
		c.setStateLocked(Status{Offline, shared.ErrClosed})
	}
	c.status.End()
	for _, e := range c.entries {
		for s := range e.subs {
			s.updates.End()
		}
	}
	c.endTopicsLocked(shared.ErrClosed)
}

// setStateLocked changes the state of the connection, and with it that of the keys.
func (c *Client) setStateLocked(s Status) {
	c.state = s.State
	c.status.Put(s)
	for _, e := range c.entries {
		c.publishLocked(e)
	}
}

func (c *Client) setState(s Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setStateLocked(s)
}

// giveUp notes that the server refuses the client for good.
func (c *Client) giveUp(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied = why
	for _, e := range c.entries {
		e.deny(why)
	}
	c.endTopicsLocked(why)
	c.setStateLocked(Status{Denied, why})
}
