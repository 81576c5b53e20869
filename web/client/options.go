package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
)

// Options are all that a Client can be told. The zero value will do for a server
// that does not ask who it is.
type Options struct {
	// Secret is said to the server after each connect. Empty, with SecretFunc nil,
	// means to say none.
	Secret string

	// SecretFunc is Secret for one that does not last: it is asked anew at each
	// connect, and when the server says that the secret is about to expire, which
	// is then replaced without a reconnect. An error is tried again. It should
	// return soon after ctx ends, and may be called by two goroutines at once.
	SecretFunc func(ctx context.Context) (string, error)

	// Header is asked at each connect for what to send with the request: cookies,
	// Authorization. It is for servers that look there (es.Config.Authenticate).
	Header func(ctx context.Context) (http.Header, error)

	// OnMessage gets each message that is the server application's own, in order: what
	// is no frame of the protocol. Nothing is received meanwhile. It must not call Close.
	OnMessage func(message []byte)

	// Dialer connects: TLS, proxy. Nil means websocket.DefaultDialer.
	Dialer *websocket.Dialer

	// ConnectTimeout bounds one attempt, until the server has taken the secret.
	// Zero means 10 s.
	ConnectTimeout time.Duration

	// RetryMin and RetryMax bound the pause after an attempt that failed: random
	// between nothing and RetryMin, which doubles with each failure up to RetryMax.
	// What the server says about when to come back goes before. Zero means 250 ms
	// and 30 s.
	RetryMin, RetryMax time.Duration

	// PingInterval is how often the server is asked whether it is there, and
	// PongWait how long it may say nothing after that. Zero means 25 s and 10 s.
	PingInterval, PongWait time.Duration

	// WriteTimeout is how long the server may read nothing while something is
	// written to it. Zero means 10 s.
	WriteTimeout time.Duration

	// MaxMessageBytes bounds one message to the server, which has a limit too
	// (web.Config.MaxMessageBytes). Zero means 32 KiB.
	MaxMessageBytes int

	// MaxSecretBytes bounds the secret, and should be what the server's Config says.
	// Zero means 4,096. A longer one is an error, and is not sent.
	MaxSecretBytes int

	// MaxUpdateBytes bounds one message from the server. A key whose rows take more is
	// Denied with ErrTooLarge until they take less; a message of the application's that
	// does is lost, which the log says. Zero means 64 MiB.
	MaxUpdateBytes int64

	// Logger gets what an operator should know. Nil means slog.Default(). Secrets
	// and rows are never logged.
	Logger *slog.Logger
}

const (
	defaultConnectTimeout  = 10 * time.Second
	defaultRetryMin        = 250 * time.Millisecond
	defaultRetryMax        = 30 * time.Second
	defaultPingInterval    = 25 * time.Second
	defaultPongWait        = 10 * time.Second
	defaultWriteTimeout    = 10 * time.Second
	defaultMaxMessageBytes = 32 << 10
	defaultMaxSecretBytes  = 4 << 10
	defaultMaxUpdateBytes  = 64 << 20

	// minMessageBytes is the least that MaxMessageBytes can be: the longest key
	// fits, with every byte of its id escaped.
	minMessageBytes = 2 << 10
)

func (o Options) withDefaults() Options {
	if o.Dialer == nil {
		o.Dialer = websocket.DefaultDialer
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.ConnectTimeout, defaultConnectTimeout}, {&o.RetryMin, defaultRetryMin}, {&o.RetryMax, max(defaultRetryMax, o.RetryMin)},
		{&o.PingInterval, defaultPingInterval}, {&o.PongWait, defaultPongWait}, {&o.WriteTimeout, defaultWriteTimeout},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.MaxMessageBytes == 0 {
		o.MaxMessageBytes = defaultMaxMessageBytes
	}
	if o.MaxSecretBytes == 0 {
		o.MaxSecretBytes = defaultMaxSecretBytes
	}
	if o.MaxUpdateBytes == 0 {
		o.MaxUpdateBytes = defaultMaxUpdateBytes
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) validate() error {
	if o.Secret != "" && o.SecretFunc != nil {
		return errors.New("SecretFunc takes the place of Secret: set one of them")
	}
	if o.ConnectTimeout < 0 || o.RetryMin < 0 || o.RetryMax < 0 || o.PingInterval < 0 || o.PongWait < 0 || o.WriteTimeout < 0 || o.MaxUpdateBytes < 0 || o.MaxSecretBytes < 0 {
		return errors.New("ConnectTimeout, RetryMin, RetryMax, PingInterval, PongWait, WriteTimeout, MaxUpdateBytes and MaxSecretBytes cannot be negative")
	}
	if maxBytes := cmp.Or(o.MaxSecretBytes, defaultMaxSecretBytes); len(o.Secret) > maxBytes {
		return secretTooLong(maxBytes)
	}
	if o.RetryMax != 0 && o.RetryMax < o.RetryMin {
		return errors.New("RetryMax is less than RetryMin")
	}
	if o.MaxMessageBytes != 0 && o.MaxMessageBytes < minMessageBytes {
		return fmt.Errorf("MaxMessageBytes is %d, the least is %d", o.MaxMessageBytes, minMessageBytes)
	}
	return nil
}

// parseURL reads the address of a server. Errors do not show it: it may hold
// credentials.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the URL is malformed")
	}
	switch u.Scheme {
	case "ws", "wss":
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("the URL begins with %q, want ws:// or wss://", u.Scheme+":")
	}
	if u.Host == "" {
		return nil, errors.New("the URL has no host")
	}
	if u.User != nil {
		return nil, errors.New("the URL holds a user: say who it is with a secret or a header")
	}
	u.Fragment = ""
	return u, nil
}
