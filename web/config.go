package web

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/internal/field"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/origin"
)

// DefaultPath is where clients connect unless the application says otherwise.
const DefaultPath = "/ws/entity-sync/"

// Config configures a Handler. Only Bridge is required.
type Config struct {
	// Bridge is the engine whose clients the sessions are.
	Bridge *bridge.Bridge

	// PassThrough gets every message that names no action, with the secret of the client that
	// sent it. It gets the messages of one client in their order: the next one is read when it
	// returns. Nil ignores them.
	PassThrough shared.SecretByteHandler

	// OnMessage is PassThrough for an application that answers its clients. It takes the place
	// of PassThrough.
	OnMessage func(s Session, message []byte)

	// AllowedOrigins are the origins (scheme://host[:port]) whose pages may connect, besides
	// the server's own. "*" allows every page to act for its visitors; use it only if secrets
	// are not cookies.
	AllowedOrigins []string

	// Snapshot sends the rows of a key when it is subscribed to on the classic
	// wire, even where the client did not ask for it. On v2 rows come unless the
	// client asks for none.
	Snapshot bool

	// Authenticate decides, before a connection is accepted, as whom a client connects. From
	// the request's cookie or header it returns the secret with which the client's rows are
	// fetched, and when the secret expires (zero for never). An error that is
	// shared.ErrUnauthenticated is answered with status 401, shared.ErrForbidden with 403, any
	// other with 503. The client cannot change its secret later, unless VerifySecret allows
	// it. With RequireSecret, a client that connects with the empty secret must still send
	// one.
	Authenticate func(r *http.Request) (secret string, expires time.Time, err error)

	// VerifySecret checks a secret that a client sends in a message, and returns when it
	// expires (zero for never). On an error the client keeps its old secret. Nil accepts any
	// secret, if Authenticate is nil as well.
	VerifySecret func(ctx context.Context, secret string) (expires time.Time, err error)

	// RequireSecret refuses every subscription until the client has a secret, and
	// ends the session if it has none within SecretTimeout (zero means 10 s).
	RequireSecret bool
	SecretTimeout time.Duration

	// Authorize is asked before each subscription, and again about each one when the client's
	// secret changes. An error refuses the subscription. For a key Authorize saves work and
	// tells clients early; the fetch handler still decides on every row. For a topic that is
	// not public Authorize decides. It also decides on each event that a client publishes, on
	// the topics that clients may publish to.
	Authorize func(ctx context.Context, a shared.AccessRequest) error

	// ReauthorizeEvery is the period within which Authorize is asked again about each
	// subscription to a topic that is not public, spread over the period. A subscription that
	// it refuses ends. See Reconsider for what cannot wait. Zero means 5 min, less than zero
	// never.
	ReauthorizeEvery time.Duration

	// Observe is told of each subscription of a client that has begun or ended, also with its
	// session, and of each event that a client has published, one for each topic. Not told are
	// the keys that a fetch handler refuses. Observe is called between the client's messages,
	// so it must return soon.
	Observe func(a shared.AccessRequest)

	// RemoteAddr returns the address that a request comes from, for MaxSessionsPerAddr and the
	// log. Nil takes the connection's host, which behind a proxy is the proxy.
	RemoteAddr func(r *http.Request) string

	// MaxSessions bounds the clients of this node. MaxSessionsPerAddr bounds those of one
	// address, or of one IPv6 /64, which a single customer has at least. Further clients are
	// answered with status 503 and 429. Zero means 100,000, and no limit for one address:
	// behind a proxy all clients have the same.
	MaxSessions, MaxSessionsPerAddr int

	// MessageRate and SubscribeRate bound how many messages and subscribed keys are taken from
	// one client in a second, after a burst of ten times as many. A client that sends more is
	// read more slowly; nothing is lost. Zero means 100 and 200.
	MessageRate, SubscribeRate int

	// MaxQueuedBytes bounds the rows that wait for one client. A client for which more are
	// waiting is disconnected with wire.CloseSlow. Zero means 64 MiB.
	MaxQueuedBytes int

	// MaxQueuedEvents and MaxQueuedEventBytes bound the events that wait for one client. Of
	// more the oldest go first, and the client is told how many. Zero means 256 and 1 MiB.
	MaxQueuedEvents, MaxQueuedEventBytes int

	// MaxMessageBytes bounds one message from a client. Zero means 32 KiB. A
	// larger one ends the session with close code 1009.
	MaxMessageBytes int64

	// MaxSecretBytes bounds a secret. Zero means 4,096. A secret that a client sends is also
	// bounded by MaxMessageBytes, as a part of its message.
	MaxSecretBytes int

	// MaxSubscriptions bounds the keys and topics of one client together. Zero means 1,000,
	// less than zero no limit.
	MaxSubscriptions int

	// PingInterval is how often an idle client is pinged. PongWait is how long it may take to
	// answer. Zero means 25 s and 10 s.
	PingInterval, PongWait time.Duration

	// WriteTimeout is how long a client may read nothing at all while something
	// is being written to it. Zero means 10 s.
	WriteTimeout time.Duration

	// Logger gets what an operator should know. Nil means slog.Default().
	Logger *slog.Logger
}

const (
	defaultSecretTimeout    = 10 * time.Second
	defaultReauthorizeEvery = 5 * time.Minute
	defaultMaxSessions      = 100_000
	defaultMessageRate      = 100
	defaultSubscribeRate    = 200
	defaultMaxSubscriptions = 1000
	defaultMaxQueuedBytes   = 64 << 20
	defaultMaxQueuedEvents  = 256 // a second of a busy channel
	defaultMaxEventBytes    = 1 << 20
	defaultMaxMessageBytes  = 32 << 10 // bulk subscriptions fit; a frame bomb does not
	defaultMaxSecretBytes   = 4 << 10  // a token fits; a document does not
	defaultPingInterval     = 25 * time.Second
	defaultPongWait         = 10 * time.Second
	defaultWriteTimeout     = 10 * time.Second

	// closeWait is how long a client may take to close its connection after a close frame.
	closeWait = time.Second
)

func (c Config) withDefaults() Config {
	if c.SecretTimeout == 0 {
		c.SecretTimeout = defaultSecretTimeout
	}
	if c.ReauthorizeEvery == 0 {
		c.ReauthorizeEvery = defaultReauthorizeEvery
	}
	if c.RemoteAddr == nil {
		c.RemoteAddr = hostOf
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = defaultMaxSessions
	}
	if c.MessageRate == 0 {
		c.MessageRate = defaultMessageRate
	}
	if c.SubscribeRate == 0 {
		c.SubscribeRate = defaultSubscribeRate
	}
	if c.MaxSubscriptions == 0 {
		c.MaxSubscriptions = defaultMaxSubscriptions
	}
	if c.MaxQueuedBytes == 0 {
		c.MaxQueuedBytes = defaultMaxQueuedBytes
	}
	if c.MaxQueuedEvents == 0 {
		c.MaxQueuedEvents = defaultMaxQueuedEvents
	}
	if c.MaxQueuedEventBytes == 0 {
		c.MaxQueuedEventBytes = defaultMaxEventBytes
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = defaultMaxMessageBytes
	}
	if c.MaxSecretBytes == 0 {
		c.MaxSecretBytes = defaultMaxSecretBytes
	}
	if c.PingInterval == 0 {
		c.PingInterval = defaultPingInterval
	}
	if c.PongWait == 0 {
		c.PongWait = defaultPongWait
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = defaultWriteTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if c.OnMessage != nil && c.PassThrough != nil {
		return field.Errorf("OnMessage", "takes the place of PassThrough: set one of them")
	}
	for _, allowed := range c.AllowedOrigins {
		if allowed == "*" {
			continue
		}
		if err := origin.Check(allowed); err != nil {
			return field.Errorf("AllowedOrigins", "holds %q, which no browser sends: %w", allowed, err)
		}
	}
	return cmp.Or(
		field.NotNegative("SecretTimeout", c.SecretTimeout),
		field.NotNegative("MaxSessions", c.MaxSessions),
		field.NotNegative("MaxSessionsPerAddr", c.MaxSessionsPerAddr),
		field.NotNegative("MessageRate", c.MessageRate),
		field.NotNegative("SubscribeRate", c.SubscribeRate),
		field.NotNegative("MaxQueuedBytes", c.MaxQueuedBytes),
		field.NotNegative("MaxQueuedEvents", c.MaxQueuedEvents),
		field.NotNegative("MaxQueuedEventBytes", c.MaxQueuedEventBytes),
		field.NotNegative("MaxMessageBytes", c.MaxMessageBytes),
		field.NotNegative("MaxSecretBytes", c.MaxSecretBytes),
		field.NotNegative("PingInterval", c.PingInterval),
		field.NotNegative("PongWait", c.PongWait),
		field.NotNegative("WriteTimeout", c.WriteTimeout),
	)
}
