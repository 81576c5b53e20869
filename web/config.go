package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
)

// DefaultPath is where clients connect unless the application says otherwise.
const DefaultPath = "/ws/entity-sync/"

// Config is what a Handler is made of. Only Bridge is required.
type Config struct {
	// Bridge is the engine whose clients the sessions are.
	Bridge *bridge.Bridge

	// PassThrough gets every message that names no action, with the secret of
	// the client that sent it. It is called in the order of the client's
	// messages, and the client's next one is read when it returns. Nil ignores them.
	PassThrough shared.SecretByteHandler

	// AllowedOrigins are the origins (scheme://host[:port]) whose pages may
	// connect, besides the server's own. "*" allows every page there is to act
	// for whoever visits it; use it only where secrets are not cookies.
	AllowedOrigins []string

	// Snapshot sends the rows of a key when it is subscribed to, even where the
	// client did not ask for it.
	Snapshot bool

	// MaxMessageBytes bounds one message from a client. Zero means 32 KiB. A
	// larger one ends the session with close code 1009.
	MaxMessageBytes int64

	// MaxSubscriptions bounds the keys of one client. Zero means 1,000, less
	// than zero no limit.
	MaxSubscriptions int

	// PingInterval is how often an idle client is asked whether it is there, and
	// PongWait how long it may take to answer. Zero means 25 s and 10 s.
	PingInterval, PongWait time.Duration

	// WriteTimeout is how long a client may read nothing at all while something
	// is being written to it. Zero means 10 s.
	WriteTimeout time.Duration

	// Logger gets what an operator should know. Nil means slog.Default().
	Logger *slog.Logger
}

const (
	defaultMaxMessageBytes = 32 << 10 // bulk subscriptions fit; a frame bomb does not
	defaultPingInterval    = 25 * time.Second
	defaultPongWait        = 10 * time.Second
	defaultWriteTimeout    = 10 * time.Second

	// closeWait is how long a client that was told to go may take to hang up.
	closeWait = time.Second

	// maxSecretBytes bounds a secret: a token fits, a document does not.
	maxSecretBytes = 4 << 10
)

func (c Config) withDefaults() Config {
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = defaultMaxMessageBytes
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
	if c.MaxMessageBytes < 0 || c.PingInterval < 0 || c.PongWait < 0 || c.WriteTimeout < 0 {
		return errors.New("MaxMessageBytes, PingInterval, PongWait and WriteTimeout cannot be negative")
	}
	for _, origin := range c.AllowedOrigins {
		if origin == "*" {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin || strings.Contains(origin, "*") {
			return fmt.Errorf("AllowedOrigins holds %q, want scheme://host or scheme://host:port", origin)
		}
	}
	return nil
}
