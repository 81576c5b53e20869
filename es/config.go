package es

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/bridge/sealed"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// Config is all that Entity Sync can be told. The zero value works for one
// process by itself; NSQAddr or NSQLookupAddr joins it to others.
type Config struct {
	// NSQAddr is the TCP address (host:port) of nsqd, or of several nsqd, with
	// commas between. Empty, with NSQLookupAddr, means no NSQ: notifications stay
	// in this process. nsqd need not be up: it is connected to when it appears.
	NSQAddr string

	// NSQLookupAddr is the HTTP address (host:port) of nsqlookupd, or of several,
	// with commas between: the nsqd that it names are used beside those of
	// NSQAddr. It need not be up.
	NSQLookupAddr string

	// NSQSharedTopic, if not empty, names one NSQ topic, after QueuePrefix, for
	// all entity types, which costs one connection for each nsqd and not one for
	// each nsqd and entity type. All nodes must have the same. Default: a topic
	// for each entity type.
	NSQSharedTopic string

	// QueuePrefix is put before each entity type to make its NSQ topic, so that
	// several systems can share an nsqd. Default: none.
	QueuePrefix string

	// NSQTLS encrypts the connections to nsqd, with this configuration. An nsqd
	// that does not offer TLS is then refused. Default: no TLS.
	NSQTLS *tls.Config

	// NSQAuthSecret is given to an nsqd that asks for it.
	NSQAuthSecret string

	// BusKey has this node believe of what is published on the bus only what carries an
	// HMAC made with this key, which all nodes have: 32 random bytes as text, such as
	// openssl rand -hex 32 makes. Several, with commas between, are for changing it: the
	// first is used, and all are believed. Default: whatever is published is believed.
	BusKey string

	// Bus carries notifications in place of NSQ. NSQAddr, NSQLookupAddr and
	// QueuePrefix must then be empty.
	Bus bus.Bus

	// Outbox, if given, has this node announce what outbox.NotifyTx and outbox.Track write
	// to the outbox of a database, for the entity types that the node registers. A node
	// without it may write there all the same, as long as another one announces.
	Outbox *outbox.Config

	// Mux, if given, gets the WebSocket handler at Path. Otherwise serve the
	// EntitySync itself, which is an http.Handler.
	Mux *mux.Router

	// Path is where clients connect on Mux, which must be given for it. Empty
	// means "/ws/entity-sync/".
	Path string

	// WSPassThrough gets every client message that names no action, with the
	// client's secret.
	WSPassThrough shared.SecretByteHandler

	// OnMessage is WSPassThrough for an application that has something to answer:
	// it is given the session. It takes the place of WSPassThrough.
	OnMessage func(s web.Session, message []byte)

	// Authenticate says who connects, from the request's cookie or header: with
	// what secret its rows are fetched, and when that expires (zero for never). An
	// error that is shared.ErrUnauthenticated is answered with status 401,
	// shared.ErrForbidden with 403, any other with 503. Clients may then not say
	// another secret, unless VerifySecret allows it.
	Authenticate func(r *http.Request) (secret string, expires time.Time, err error)

	// VerifySecret checks a secret that a client says in a message, and says when
	// it expires (zero for never). On an error the client keeps the one it had.
	// Nil accepts any, where Authenticate is nil as well.
	VerifySecret func(ctx context.Context, secret string) (expires time.Time, err error)

	// RequireSecret refuses every subscription until the client has a secret, and
	// ends its session if it has none within SecretTimeout (zero means 10 s).
	RequireSecret bool
	SecretTimeout time.Duration

	// Authorize is asked before anything is done for a subscription, and again of
	// each when the client's secret changes. An error refuses it. It saves work
	// and tells early; the fetch handler still decides on every row.
	Authorize func(ctx context.Context, a shared.AccessRequest) error

	// RemoteAddr says where a request comes from, for MaxSessionsPerAddr and the
	// log. Nil takes the host of the connection, which behind a proxy is the proxy.
	RemoteAddr func(r *http.Request) string

	// AllowedOrigins are the origins (scheme://host[:port]) whose pages may
	// connect, besides the server's own: a page of http://localhost:8080 may not
	// connect to http://127.0.0.1:8080. "*" allows every page there is to act for
	// whoever visits it; use it only where secrets are not cookies.
	AllowedOrigins []string

	// Snapshot sends the rows of a key when it is subscribed to on the classic
	// wire. Without it a client asks for that with "snapshot":true in the
	// subscription. On v2 rows come unless the client asks for none.
	Snapshot bool

	// PublishTimeout bounds how long one message of a notification waits for the bus; very
	// many keys are several messages. Zero means 1 s.
	PublishTimeout time.Duration

	// MaxFetches bounds how many fetch handlers run at once on this node, for all
	// entity types together; WithWorkers bounds one. Half of them are kept for
	// types that have few running. Zero means 256.
	MaxFetches int

	// MaxMessageBytes and MaxSubscriptions bound what one client may send at once
	// and watch. Zero means 32 KiB and 1,000; less than zero subscriptions means
	// no limit.
	MaxMessageBytes  int64
	MaxSubscriptions int

	// MaxSecretBytes bounds a secret. Zero means 4,096. A token with many claims may
	// need more; one that a client says is part of a message, so that MaxMessageBytes
	// bounds it, too.
	MaxSecretBytes int

	// MaxSessions bounds the clients of this node, and MaxSessionsPerAddr those
	// from one address, or of IPv6 from one /64. Zero means 100,000, and no limit for
	// one address: behind a proxy all have the same.
	MaxSessions, MaxSessionsPerAddr int

	// MessageRate and SubscribeRate bound the messages, and the keys subscribed
	// to, that are taken from one client in a second, after a burst of ten times
	// as many. What is more is read more slowly. Zero means 100 and 200.
	MessageRate, SubscribeRate int

	// MaxQueuedBytes bounds the rows that wait for one client. Zero means 64 MiB.
	MaxQueuedBytes int

	// PingInterval, PongWait and WriteTimeout say when a client that does not
	// answer, or does not read, is given up. Zero means 25 s, 10 s and 10 s.
	PingInterval, PongWait, WriteTimeout time.Duration

	// DrainDelay is how long Close goes on serving, and taking clients, after Ready has
	// become false: as long as a load balancer needs to see that. It takes half of what
	// Close's context allows at most. Zero means not at all.
	DrainDelay time.Duration

	// Logger gets what an operator should know. Nil means slog.Default().
	// Secrets and rows are never logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Path == "" && c.Mux != nil {
		c.Path = web.DefaultPath
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if c.Mux == nil && c.Path != "" {
		return errors.New("Path is for Mux, which is nil: serve the EntitySync at the path instead")
	}
	if c.Mux != nil && !strings.HasPrefix(c.Path, "/") {
		return fmt.Errorf("Path is %q, want it to begin with /", c.Path)
	}
	if c.PublishTimeout < 0 {
		return errors.New("PublishTimeout cannot be negative")
	}
	if c.DrainDelay < 0 {
		return errors.New("DrainDelay cannot be negative")
	}
	if c.MaxFetches < 0 {
		return errors.New("MaxFetches cannot be negative")
	}
	if c.BusKey != "" && c.Bus == nil && !c.usesNSQ() {
		return errors.New("BusKey is for what other processes publish: NSQAddr, NSQLookupAddr or Bus must be given")
	}
	if c.Bus != nil && (c.usesNSQ() || c.QueuePrefix != "") {
		return errors.New("Bus takes the place of NSQ: NSQAddr, NSQLookupAddr and QueuePrefix must be empty")
	}
	if !c.usesNSQ() && (c.QueuePrefix != "" || c.NSQSharedTopic != "" || c.NSQTLS != nil || c.NSQAuthSecret != "") {
		return errors.New("QueuePrefix, NSQSharedTopic, NSQTLS and NSQAuthSecret are for NSQ: NSQAddr or NSQLookupAddr must not be empty")
	}
	return nil
}

func (c Config) bus() (bus.Bus, error) {
	bus, err := c.plainBus()
	if err != nil || c.BusKey == "" {
		return bus, err
	}
	var keys [][]byte
	for key := range strings.SplitSeq(c.BusKey, ",") {
		keys = append(keys, []byte(strings.TrimSpace(key)))
	}
	safe, err := sealed.New(bus, sealed.Config{Keys: keys, Logger: c.Logger})
	if err != nil {
		if c.Bus == nil {
			_ = bus.Close(context.Background()) // which has only just begun
		}
		return nil, fmt.Errorf("BusKey: %w", err)
	}
	return safe, nil
}

// plainBus is a bus whose messages anybody may have published.
func (c Config) plainBus() (bus.Bus, error) {
	switch {
	case c.Bus != nil:
		return c.Bus, nil
	case !c.usesNSQ():
		return new(membus.Broker).NewNode(), nil
	}
	bus, err := nsqbus.New(c.nsq())
	if err != nil {
		return nil, fmt.Errorf("NSQAddr, NSQLookupAddr, NSQSharedTopic and QueuePrefix: %w", err)
	}
	return bus, nil
}

func (c Config) usesNSQ() bool { return c.NSQAddr != "" || c.NSQLookupAddr != "" }

func (c Config) nsq() nsqbus.Config {
	return nsqbus.Config{
		Addrs:       splitAddrs(c.NSQAddr),
		LookupAddrs: splitAddrs(c.NSQLookupAddr),
		Prefix:      c.QueuePrefix,
		SharedTopic: c.NSQSharedTopic,
		TLS:         c.NSQTLS,
		AuthSecret:  c.NSQAuthSecret,
		Logger:      c.Logger,
	}
}

// splitAddrs returns the addresses in a list with commas, none where it is empty.
func splitAddrs(list string) []string {
	if list == "" {
		return nil
	}
	addrs := strings.Split(list, ",")
	for i := range addrs {
		addrs[i] = strings.TrimSpace(addrs[i])
	}
	return addrs
}

func (c Config) bridge(bus bus.Bus, fetch shared.Fetcher) bridge.Config {
	return bridge.Config{Bus: bus, Fetch: fetch, PublishTimeout: c.PublishTimeout, MaxFetches: c.MaxFetches, Logger: c.Logger}
}

func (c Config) web(b *bridge.Bridge) web.Config {
	return web.Config{
		Bridge:           b,
		PassThrough:      c.WSPassThrough,
		AllowedOrigins:   c.AllowedOrigins,
		Snapshot:         c.Snapshot,
		MaxMessageBytes:  c.MaxMessageBytes,
		MaxSubscriptions: c.MaxSubscriptions,
		MaxSecretBytes:   c.MaxSecretBytes,

		OnMessage:          c.OnMessage,
		Authenticate:       c.Authenticate,
		VerifySecret:       c.VerifySecret,
		RequireSecret:      c.RequireSecret,
		SecretTimeout:      c.SecretTimeout,
		Authorize:          c.Authorize,
		RemoteAddr:         c.RemoteAddr,
		MaxSessions:        c.MaxSessions,
		MaxSessionsPerAddr: c.MaxSessionsPerAddr,
		MessageRate:        c.MessageRate,
		SubscribeRate:      c.SubscribeRate,
		MaxQueuedBytes:     c.MaxQueuedBytes,

		PingInterval: c.PingInterval,
		PongWait:     c.PongWait,
		WriteTimeout: c.WriteTimeout,
		Logger:       c.Logger,
	}
}
