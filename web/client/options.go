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

// Options configure a Client. The zero value will do for a server that does not ask who the
// client is.
type Options struct {
	// Secret is sent to the server after each connect. If it is empty and SecretFunc nil, no
	// secret is sent.
	Secret string

	// SecretFunc is for a secret that expires, and takes the place of Secret. It is called at
	// each connect, and when the server says that the secret is about to expire; the new
	// secret then replaces the old one without a reconnect. After an error it is called again.
	// It should return soon after ctx ends, and may be called by two goroutines at once.
	SecretFunc func(ctx context.Context) (string, error)

	// Header returns, at each connect, the header to send with the request: cookies,
	// Authorization. It is for servers that authenticate by it (es.Config.Authenticate).
	Header func(ctx context.Context) (http.Header, error)

	// OnMessage gets each message that is the server application's own, in order: any that is
	// no frame of the protocol. Nothing is received until it returns. It must not call Close.
	OnMessage func(message []byte)

	// Dialer connects: TLS, proxy. Nil means websocket.DefaultDialer.
	Dialer *websocket.Dialer

	// ConnectTimeout bounds one attempt, until the server has taken the secret.
	// Zero means 10 s.
	ConnectTimeout time.Duration

	// RetryMin and RetryMax bound the pause after an attempt that failed. The pause is random
	// between nothing and RetryMin; the bound doubles with each failure up to RetryMax. A
	// pause that the server asks for has precedence. Zero means 250 ms and 30 s.
	RetryMin, RetryMax time.Duration

	// PingInterval is how often the server is pinged. PongWait is how long it may then send
	// nothing. Zero means 25 s and 10 s.
	PingInterval, PongWait time.Duration

	// WriteTimeout is how long the server may read nothing while something is
	// written to it. Zero means 10 s.
	WriteTimeout time.Duration

	// MaxMessageBytes bounds one message to the server, which has a limit too
	// (web.Config.MaxMessageBytes). Zero means 32 KiB.
	MaxMessageBytes int

	// MaxSecretBytes bounds the secret, and should be that of the server's Config. A longer
	// secret is an error, and is not sent. Zero means 4,096.
	MaxSecretBytes int

	// MaxUpdateBytes bounds one message from the server. A key with larger rows is Denied with
	// ErrTooLarge until they are smaller. In place of a larger event,
	// every topic is told of a gap. A larger message of the application's own is lost, and the
	// log says so. Zero means 64 MiB.
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

	// minMessageBytes is the least that MaxMessageBytes may be: the longest key fits into it,
	// with every byte of its id escaped.
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

// parseURL reads the address of a server. Its errors do not quote the URL, which may hold
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
