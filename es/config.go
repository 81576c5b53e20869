package es

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/db/outbox"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// Config is all that Entity Sync can be told. The zero value works for one
// process by itself; NSQAddr joins it to others.
//
// At the top is what programs set first. All other fields are in the Config of the part
// that they are for: Web.MaxSessions, NSQ.Heartbeat. Where a field of a part is at the top
// as well, as the comments say, set one of the two: New returns an error where both are set.
type Config struct {
	// NSQAddr is the TCP address (host:port) of nsqd, or of several nsqd, with
	// commas between: NSQ.Addrs as one text. Where it is empty, and so is all of NSQ,
	// notifications stay in this process. nsqd need not be up: it is connected to when
	// it appears.
	NSQAddr string

	// NSQ is all else about NSQ.
	NSQ nsqbus.Config

	// Bus carries notifications in place of NSQ, of which nothing may be set then. It is
	// Bridge.Bus.
	Bus bus.Bus

	// BusKey has this node believe of what is published on the bus only what carries an
	// HMAC made with this key, which all nodes have: 32 random bytes as text, such as
	// openssl rand -hex 32 makes. Several, with commas between, are for changing it: the
	// first is used, and all are believed. Default: whatever is published is believed.
	BusKey string

	// Bridge is all else about the engine, such as how many fetch handlers run at once.
	// Its Fetch must be nil: the node has the handlers that are registered.
	Bridge bridge.Config

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
	// client's secret. It is Web.PassThrough.
	WSPassThrough shared.SecretByteHandler

	// OnMessage is WSPassThrough for an application that has something to answer:
	// it is given the session. It takes the place of WSPassThrough. It is Web.OnMessage.
	OnMessage func(s web.Session, message []byte)

	// Authenticate says who connects, from the request's cookie or header: with
	// what secret its rows are fetched, and when that expires (zero for never). An
	// error that is shared.ErrUnauthenticated is answered with status 401,
	// shared.ErrForbidden with 403, any other with 503. Clients may then not say
	// another secret, unless VerifySecret allows it. It is Web.Authenticate.
	Authenticate func(r *http.Request) (secret string, expires time.Time, err error)

	// VerifySecret checks a secret that a client says in a message, and says when
	// it expires (zero for never). On an error the client keeps the one it had.
	// Nil accepts any, where Authenticate is nil as well. It is Web.VerifySecret.
	VerifySecret func(ctx context.Context, secret string) (expires time.Time, err error)

	// Authorize is asked before anything is done for a subscription, and again of
	// each when the client's secret changes. An error refuses it. It saves work
	// and tells early; the fetch handler still decides on every row. It is Web.Authorize.
	Authorize func(ctx context.Context, a shared.AccessRequest) error

	// AllowedOrigins are the origins (scheme://host[:port]) whose pages may
	// connect, besides the server's own: a page of http://localhost:8080 may not
	// connect to http://127.0.0.1:8080. "*" allows every page there is to act for
	// whoever visits it; use it only where secrets are not cookies. It is
	// Web.AllowedOrigins.
	AllowedOrigins []string

	// Web is all else about clients: limits, timeouts, whether a secret is required. Its
	// Bridge must be nil: it is the node's own.
	Web web.Config

	// DrainDelay is how long Close goes on serving, and taking clients, after Ready has
	// become false: as long as a load balancer needs to see that. It takes half of what
	// Close's context allows at most. Zero means not at all.
	DrainDelay time.Duration

	// Logger gets what an operator should know. Nil means slog.Default().
	// Secrets and rows are never logged. Each part whose Config has no Logger uses it.
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

// validate checks what no part does.
func (c Config) validate() error {
	switch {
	case c.Mux == nil && c.Path != "":
		return field.Errorf("Path", "is for Mux, which is nil: serve the EntitySync at the path instead")
	case c.Mux != nil && !strings.HasPrefix(c.Path, "/"):
		return field.Errorf("Path", "is %q, want it to begin with /", c.Path)
	case c.Bridge.Fetch != nil:
		return field.Errorf("Bridge.Fetch", "must be nil: the node has the handlers that are registered")
	case c.Web.Bridge != nil:
		return field.Errorf("Web.Bridge", "must be nil: it is the node's own")
	}
	return field.NotNegative("DrainDelay", c.DrainDelay)
}
