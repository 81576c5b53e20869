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

// Config configures a node. The zero value works for one process by itself; NSQAddr joins it
// to others.
//
// Fields that programs set first are at the top. All other fields are in the Config of the
// part that they are for: Web.MaxSessions, NSQ.Heartbeat. Some fields of a part are at the top
// as well, as their comments say: set one of the two. New returns an error if both are set.
type Config struct {
	// NSQAddr is the TCP address (host:port) of nsqd, or of several nsqd, with commas between:
	// NSQ.Addrs as one text. If it and all of NSQ are empty, notifications stay in this
	// process. nsqd need not be up: the node connects when nsqd appears.
	NSQAddr string

	// NSQ is the rest of the configuration for NSQ.
	NSQ nsqbus.Config

	// Bus carries notifications in place of NSQ, whose fields must then be empty. It is
	// Bridge.Bus.
	Bus bus.Bus

	// BusKey makes this node ignore messages on the bus without an HMAC of this key, which all
	// nodes share: 32 random bytes as text, such as openssl rand -hex 32 makes. To change the
	// key, give several, with commas between: the first is used, and all are accepted. Empty
	// means that all messages are accepted.
	BusKey string

	// Bridge is the rest of the configuration for the engine, such as how many fetch handlers
	// run at once. Its Fetch must be nil: the node has the handlers that are registered.
	Bridge bridge.Config

	// Outbox, if given, makes this node announce the keys in the outbox of a database, for the
	// entity types that the node registers. Programs write keys to it with outbox.NotifyTx and
	// outbox.Track. A node without Outbox may do so too, as long as another node announces.
	Outbox *outbox.Config

	// Mux, if given, gets the WebSocket handler at Path. Otherwise serve the
	// EntitySync itself, which is an http.Handler.
	Mux *mux.Router

	// Path is where clients connect on Mux, and needs Mux. Empty means "/ws/entity-sync/".
	Path string

	// WSPassThrough gets every client message that names no action, with the
	// client's secret. It is Web.PassThrough.
	WSPassThrough shared.SecretByteHandler

	// OnMessage is WSPassThrough for an application that answers its clients: it is given the
	// session. It takes the place of WSPassThrough. It is Web.OnMessage.
	OnMessage func(s web.Session, message []byte)

	// Authenticate decides, before a connection is accepted, as whom a client connects. From
	// the request's cookie or header it returns the secret with which the client's rows are
	// fetched, and when the secret expires (zero for never). An error that is
	// shared.ErrUnauthenticated is answered with status 401, shared.ErrForbidden with 403, any
	// other with 503. The client cannot change its secret later, unless VerifySecret allows
	// it. It is Web.Authenticate.
	Authenticate func(r *http.Request) (secret string, expires time.Time, err error)

	// VerifySecret checks a secret that a client sends in a message, and returns when it
	// expires (zero for never). On an error the client keeps its old secret. Nil accepts any
	// secret, if Authenticate is nil as well. It is Web.VerifySecret.
	VerifySecret func(ctx context.Context, secret string) (expires time.Time, err error)

	// Authorize is asked before each subscription, and again about each one when the client's
	// secret changes. An error refuses the subscription. For a key Authorize saves work and
	// tells clients early; the fetch handler still decides on every row. For a topic that is
	// not public Authorize decides, also on "*" and on topics above others. It is asked about
	// each event that a client publishes. It is Web.Authorize.
	Authorize func(ctx context.Context, a shared.AccessRequest) error

	// AllowedOrigins are the origins (scheme://host[:port]) whose pages may connect, besides
	// the server's own: a page of http://localhost:8080 may not connect to
	// http://127.0.0.1:8080. "*" allows every page to act for its visitors; use it only if
	// secrets are not cookies. It is Web.AllowedOrigins.
	AllowedOrigins []string

	// Web is the rest of the configuration for clients: limits, timeouts, whether a secret is
	// required. Its Bridge must be nil: it is the node's own.
	Web web.Config

	// DrainDelay is how long Close goes on serving, and accepting clients, after Ready has
	// become false: as long as a load balancer needs to see that. It takes at most half of the
	// time that Close's context allows. Zero means no delay.
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

// validate checks the fields that no part checks.
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
