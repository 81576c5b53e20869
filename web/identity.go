package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/revocation"
	"github.com/entity-sync/entity-sync/web/internal/timers"
	"github.com/entity-sync/entity-sync/web/wire"
)

// attemptTimeout bounds one call of the application's Authorize or VerifySecret.
const attemptTimeout = 10 * time.Second

// expiryWarning is how long before its secret expires a client is warned.
const expiryWarning = 30 * time.Second

// authenticate asks the application who connects. If the client may not connect, it answers
// the request itself.
func (h *Handler) authenticate(w http.ResponseWriter, r *http.Request) (id identity, ok bool) {
	if h.config.Authenticate == nil {
		return identity{}, true
	}
	begin := h.revocations.Now()
	secret, expires, err := h.callAuthenticate(r)
	switch {
	case err == nil && len(secret) > h.config.MaxSecretBytes:
		h.complain("Authenticate returned a secret that is too long", slog.Int("bytes", len(secret)))
		h.turnAway(w, longSecret)
	case err == nil && h.expired(expires):
		h.turnAway(w, expiredAtOnce)
	case err == nil:
		return identity{secret: shared.NewSecret(secret), expires: expires.Round(0), known: secret != "", since: begin}, true
	case errors.Is(err, shared.ErrForbidden):
		h.turnAway(w, forbidden)
	case errors.Is(err, shared.ErrUnauthenticated):
		h.turnAway(w, unauthenticated)
	default:
		// Without the error's text, which may quote the credentials.
		h.complain("a client could not be authenticated", slog.Any("error", withoutDetails(err)))
		h.turnAway(w, noAnswer)
	}
	return identity{}, false
}

func (h *Handler) callAuthenticate(r *http.Request) (secret string, expires time.Time, err error) {
	err = h.guard("Authenticate", func() (err error) {
		secret, expires, err = h.config.Authenticate(r)
		return err
	})
	return secret, expires, err
}

// errCallback is the error of an application's function that panicked.
var errCallback = errors.New("a function of the application's panicked")

// guard calls a function of the application's. Its panic costs no more than the request.
func (h *Handler) guard(name string, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			h.complain(name+" panicked", slog.String("stack", string(debug.Stack())))
			err = errCallback
		}
	}()
	return call()
}

// complain logs a fault of the application's, unless there were many lately: clients decide
// how often it happens.
func (h *Handler) complain(what string, attrs ...any) {
	if h.logs.Allow() {
		h.config.Logger.Error(what, attrs...)
	}
}

// expired compares with the wall clock alone: a secret's time has no monotonic reading.
func (h *Handler) expired(at time.Time) bool { return !at.IsZero() && !h.wall().Before(at.Round(0)) }

// identity is who a client is.
type identity struct {
	secret  shared.Secret
	expires time.Time         // by the wall clock; zero for never
	known   bool              // the secret came in a message, or came at the upgrade and is not empty
	since   revocation.Moment // before the application was asked about the secret
}

// verify returns the identity of a client that sends a secret in a message.
func (s *session) verify(secret string) (id identity, err error) {
	id = identity{secret: shared.NewSecret(secret), known: true, since: s.handler.revocations.Now()}
	verify := s.handler.config.VerifySecret
	switch {
	case verify != nil:
		ctx, cancel := context.WithTimeout(s.handler.ctx, attemptTimeout)
		defer cancel()
		err := s.handler.guard("VerifySecret", func() (err error) {
			id.expires, err = verify(ctx, secret)
			id.expires = id.expires.Round(0)
			return err
		})
		if err != nil {
			return id, withoutDetails(err)
		}
		if s.handler.expired(id.expires) {
			return id, shared.ErrUnauthenticated
		}
	case s.handler.config.Authenticate != nil:
		// The secret was settled when the client connected.
		return id, shared.ErrForbidden
	}
	return id, nil
}

// reauthorize ends the subscriptions that the application does not allow the client under its
// next identity.
//
// Each subscription takes a token, even without Authorize: with another secret it is another
// subscription, and costs as much as one.
func (s *session) reauthorize(id identity) {
	if id.secret == s.who().secret {
		return
	}
	s.mu.Lock()
	s.renewing = true // until setIdentity
	s.mu.Unlock()
	for _, key := range s.client.Keys() {
		if !s.waitForToken(&s.subscribes, "subscriptions") {
			return
		}
		if s.handler.config.Authorize == nil {
			continue
		}
		if err := s.authorize(id, key); err != nil {
			s.client.Unsubscribe(key)
			s.observe(shared.AccessRequest{Action: shared.ActionUnsubscribe, Key: key})
			refusal := wire.RefusalOf(err)
			s.traceUnsubscribed(key.Entity, refusal.Code)
			s.reply(wire.Reply{Action: wire.ActionUnsubscribed, Key: key, Code: refusal.Code, Message: refusal.Message})
		}
	}
	s.reauthorizeTopics(id)
}

// authorize asks the application whether a client with the identity may watch a key.
func (s *session) authorize(id identity, key shared.EntityKey) error {
	return s.ask(id, shared.AccessRequest{Action: shared.ActionSubscribe, Key: key})
}

// ask asks the application whether somebody may do something.
func (s *session) ask(id identity, a shared.AccessRequest) error {
	ctx, cancel := context.WithTimeout(s.handler.ctx, attemptTimeout)
	defer cancel()
	a.Secret, a.Remote = id.secret, s.remote
	err := s.handler.guard("Authorize", func() error { return s.handler.config.Authorize(ctx, a) })
	if err != nil {
		return withoutDetails(err)
	}
	return nil
}

// withoutDetails keeps an application's error out of the log: it may quote a secret.
func withoutDetails(err error) error {
	for _, known := range []error{shared.ErrForbidden, shared.ErrUnauthenticated, errCallback} {
		if errors.Is(err, known) {
			return known
		}
	}
	return fmt.Errorf("the application's check failed with a %T", err)
}

// setIdentity gives the client an identity from now on.
func (s *session) setIdentity(id identity) {
	s.mu.Lock()
	s.identity = id
	s.scheduleExpiryLocked()
	s.out.ExpireAt(id.expires)
	if s.overdue {
		defer s.out.Release()
	}
	s.renewing, s.overdue = false, false
	s.mu.Unlock()
	// The subscriptions move one after the other. While some have rows of the new secret
	// already, rows of the old one still wait for others, and must be taken back.
	s.out.Hold()
	defer s.out.Release()
	s.client.SetSecret(id.secret.Reveal())
	if code := s.handler.revocations.Enter(&s.place, s); code != 0 { // it came while the client was being let in
		s.Revoke(code)
	}
}

func (s *session) who() identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

func (s *session) getSecret() string { return s.who().secret.Reveal() }

// scheduleExpiryLocked starts the timer for the next event of the identity: the warning, the
// end of the secret, or the end of SecretTimeout. A timer does not follow the wall clock when
// that is set. So each event checks the clock, as does each ping and each write.
func (s *session) scheduleExpiryLocked() {
	if s.expiry != nil {
		s.expiry.Stop()
	}
	if s.ended {
		return
	}
	c := &s.handler.config
	switch {
	case !s.identity.known && c.RequireSecret:
		s.startExpectingLocked(c.SecretTimeout)
	case s.identity.expires.IsZero():
		s.expiry = nil
	default:
		id := s.identity
		left := id.expires.Sub(s.handler.wall())
		s.expiry = time.AfterFunc(left-min(expiryWarning, left/2), func() { s.warn(id) })
	}
}

// warn tells the client that its secret expires, and has the session end at that time unless
// the client has another secret by then.
func (s *session) warn(id identity) {
	s.mu.Lock()
	left := id.expires.Sub(s.handler.wall())
	if s.ended || s.identity != id { // the secret was renewed just now
		s.mu.Unlock()
		return
	}
	if left > expiryWarning { // the clock was set back
		s.scheduleExpiryLocked()
		s.mu.Unlock()
		return
	}
	s.expiry = time.AfterFunc(left, func() { s.expire(id) })
	s.mu.Unlock()
	s.sayExpiring(left)
}

// expire ends the session of a client whose secret has expired. If the client has sent another
// secret in time, which the application has verified, and Authorize is still being asked about
// that one, the session goes on, but no update is sent until the new identity is set.
func (s *session) expire(id identity) {
	s.mu.Lock()
	switch {
	case s.ended || s.overdue || s.identity != id: // the secret was renewed just now
		s.mu.Unlock()
	case !s.handler.expired(id.expires): // the clock was set back
		s.expiry = time.AfterFunc(id.expires.Sub(s.handler.wall()), func() { s.expire(id) })
		s.out.ExpireAt(id.expires)
		s.mu.Unlock()
	case s.renewing:
		s.overdue = true
		s.out.Hold()
		s.mu.Unlock()
	default:
		s.mu.Unlock()
		s.closeGracefully(wire.CloseExpired, "the secret has expired")
	}
}

// Expired implements sendqueue.Owner. By the wall clock the send queue has found that the
// secret has expired.
func (s *session) Expired() {
	if id := s.who(); s.handler.expired(id.expires) {
		s.expire(id)
	} else { // the secret was renewed just now, or the clock was set back
		s.out.ExpireAt(id.expires)
	}
}

// expectSecret ends a session that has no secret in time. After the node has slept, the
// client's secret may still lie unread in the socket.
func (s *session) expectSecret(due time.Time) {
	late, wait := time.Since(due), timers.Slack(s.handler.config.SecretTimeout)
	s.mu.Lock()
	missing := !s.identity.known && !s.ended
	slept := missing && late >= wait
	if slept {
		s.startExpectingLocked(wait)
	}
	s.mu.Unlock()
	if missing && !slept {
		s.closeGracefully(wire.CloseUnauthenticated, "say a secret first")
	}
}

func (s *session) startExpectingLocked(wait time.Duration) {
	due := time.Now().Add(wait)
	s.expiry = time.AfterFunc(wait, func() { s.expectSecret(due) })
}

// permit returns an error if the client may not subscribe to key. The fetch may refuse the key
// later.
func (s *session) permit(key shared.EntityKey) error {
	if !s.waitForToken(&s.subscribes, "subscriptions") {
		return shared.ErrClosed
	}
	if err := key.Validate(); err != nil {
		return err
	}
	id := s.who()
	if s.handler.config.RequireSecret && !id.known {
		return shared.ErrUnauthenticated
	}
	if s.handler.config.Authorize == nil {
		return nil
	}
	return s.authorize(id, key)
}
