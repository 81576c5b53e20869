package client

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/entity-sync/entity-sync/internal/backoff"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// saysSecret reports whether the client sends a secret at all.
func (c *Client) saysSecret() bool { return c.options.SecretFunc != nil || c.secret != shared.Secret{} }

// askSecret returns the secret to send now.
func (c *Client) askSecret(ctx context.Context) (shared.Secret, error) {
	if c.options.SecretFunc == nil {
		return c.secret, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.ConnectTimeout)
	defer cancel()
	text, err := c.options.SecretFunc(ctx)
	if err == nil && len(text) > c.options.MaxSecretBytes {
		err = secretTooLong(c.options.MaxSecretBytes)
	}
	if err != nil {
		return shared.Secret{}, &callbackError{"SecretFunc", err}
	}
	return shared.NewSecret(text), nil
}

// askHeader returns the header to send with the request.
func (c *Client) askHeader(ctx context.Context) (http.Header, error) {
	if c.options.Header == nil {
		return nil, nil
	}
	header, err := c.options.Header(ctx)
	if err != nil {
		return nil, &callbackError{"Header", err}
	}
	return header, nil
}

// canChange reports whether the credentials may differ at the next attempt.
func (c *Client) canChange() bool { return c.options.SecretFunc != nil || c.options.Header != nil }

// renewRetry is for asking SecretFunc again while the old secret is still valid: half a
// minute.
var renewRetry = backoff.Policy{Min: time.Second, Max: 5 * time.Second}

// renew sends a new secret on the connection. If that fails, the server ends the connection
// when the old secret has expired, and the next connection has another.
func (s *session) renew() {
	c := s.client
	for failures := 1; ; failures++ {
		secret, err := c.askSecret(s.ctx)
		if err == nil {
			s.say(secret)
			return
		}
		c.log.Warn("there is no new secret yet", slog.Any("error", loggable(err)))
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(renewRetry.Delay(failures)):
		}
	}
}

// renewed notes the answer to a secret that was sent while connected.
func (s *session) renewed(refused *Error) {
	s.renewing = false
	if refused == nil {
		s.client.reviveLocked(isAny)
		return
	}
	s.client.log.Warn("the new secret was refused; connecting anew when the old one expires", slog.Any("error", refused))
}

// isFinal reports whether the server has said that coming back is of no use.
func (c *Client) isFinal(err error) bool {
	var (
		upgrade *refusedUpgrade
		secret  refusedSecret
		bye     farewell
	)
	switch {
	case errors.As(err, &upgrade):
		return upgrade.status == http.StatusForbidden || upgrade.status == http.StatusUnauthorized && !c.canChange()
	case errors.As(err, &secret):
		switch {
		case errors.Is(err, ErrUnavailable):
			return false
		case errors.Is(err, shared.ErrUnauthenticated):
			return !c.canChange()
		default: // such as that the server takes no secret in a message
			return true
		}
	case errors.As(err, &bye):
		return wire.IsFinal(bye.Code)
	default:
		return false
	}
}
