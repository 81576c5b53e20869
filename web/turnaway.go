package web

import (
	"log/slog"
	"net/http"
	"strconv"

	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
)

// obstacle is the reason why a request does not become a session.
type obstacle int

const (
	closing obstacle = iota
	oldHTTP
	newHTTP
	noUpgrade
	wrongMethod
	badHandshake
	noHijacker
	foreignOrigin
	nodeFull
	addressFull
	forbidden
	unauthenticated
	expiredAtOnce
	noAnswer
	longSecret
	obstacles
)

// turnaway is the answer to a request that meets an obstacle, and the line in the log.
type turnaway struct {
	status int
	body   string     // has nothing of the request in it
	log    string     // tells the operator what to do about it
	level  slog.Level // of the lines that are for every operator, sparingly
}

// The hints name proxies and middleware, which cause most of these.
var turnaways = [obstacles]turnaway{
	closing: {http.StatusServiceUnavailable, "shutting down", "refusing a request: the node is shutting down", slog.LevelDebug},
	oldHTTP: {http.StatusBadRequest, "a WebSocket needs HTTP/1.1, and this request came as HTTP/1.0: a proxy in between may speak that to its servers",
		"refusing a request that came as HTTP/1.0: have the proxy speak HTTP/1.1 to this node", slog.LevelWarn},
	newHTTP: {http.StatusBadRequest, "a WebSocket needs HTTP/1.1, and this request came as HTTP/2 or later: a proxy in between may speak that to its servers",
		"refusing a request that came as HTTP/2 or later: have the proxy, or the server, speak HTTP/1.1 for this path", slog.LevelWarn},
	noUpgrade: {http.StatusBadRequest, "this is a WebSocket endpoint, and the request lacks the headers Connection: Upgrade and Upgrade: websocket, or one of them: a proxy in between may have removed them",
		"refusing a request without Upgrade: have the proxy pass the headers Connection and Upgrade on", slog.LevelWarn},
	wrongMethod: {http.StatusMethodNotAllowed, "a WebSocket is asked for with GET",
		"refusing a request to upgrade whose method is not GET", slog.LevelWarn},
	badHandshake: {http.StatusBadRequest, "the headers Sec-WebSocket-Version: 13 and Sec-WebSocket-Key are needed, or one of them is not valid: a proxy in between may have removed them",
		"refusing a request without a valid Sec-WebSocket-Version or Sec-WebSocket-Key: have the proxy pass them on", slog.LevelWarn},
	noHijacker: {http.StatusInternalServerError, "this server cannot take WebSockets: its log says why",
		"no client can connect: a middleware around the handler hides http.Hijacker; have its ResponseWriter implement Unwrap, or leave it out for this path", slog.LevelError},
	foreignOrigin: {http.StatusForbidden, "the page's origin is not allowed: it is neither that of the Host which the request names nor one that the server lists; a proxy in between may have changed the Host",
		"refusing a page of another origin; see AllowedOrigins", slog.LevelWarn},
	nodeFull:        {http.StatusServiceUnavailable, "too many clients", "refusing clients: the node has as many as MaxSessions allows", slog.LevelWarn},
	addressFull:     {http.StatusTooManyRequests, "too many clients from this address", "refusing clients: an address has as many as MaxSessionsPerAddr allows; behind a proxy set RemoteAddr", slog.LevelWarn},
	forbidden:       {http.StatusForbidden, "forbidden", "refusing a request: Authenticate returned ErrForbidden", slog.LevelDebug},
	unauthenticated: {http.StatusUnauthorized, "unauthenticated", "refusing a request: Authenticate returned ErrUnauthenticated", slog.LevelDebug},
	expiredAtOnce:   {http.StatusUnauthorized, "expired", "refusing a request: the secret that Authenticate returned has expired", slog.LevelDebug},
	noAnswer:        {http.StatusServiceUnavailable, "unavailable", "refusing a request: Authenticate failed", slog.LevelDebug},
	longSecret:      {http.StatusInternalServerError, "internal error", "refusing a request: Authenticate returned a secret that is too long", slog.LevelDebug},
}

// turnAway answers a request that is refused, and logs it: the 1st, 2nd, 4th, 8th … time if an
// operator can do something about it, and at the debug level each time.
func (h *Handler) turnAway(w http.ResponseWriter, why obstacle, attrs ...slog.Attr) {
	t := &turnaways[why]
	http.Error(w, t.body, t.status)
	level, n, say := t.level, uint64(0), true
	if level > slog.LevelDebug {
		if n, say = h.turnedAway[why].Again(); !say {
			level = slog.LevelDebug
		}
	}
	log := h.config.Logger
	if !log.Enabled(h.ctx, level) {
		return
	}
	attrs = append(attrs, slog.Int("status", t.status))
	if n > 0 {
		attrs = append(attrs, slog.Uint64("so_far", n))
	}
	log.LogAttrs(h.ctx, level, t.log, attrs...)
}

// obstacleOf returns the obstacle to upgrading a request, as far as its head shows one.
func obstacleOf(r *http.Request) (why obstacle, met bool) {
	switch {
	case r.ProtoMajor > 1:
		return newHTTP, true
	case !r.ProtoAtLeast(1, 1):
		return oldHTTP, true
	case !websocket.IsUpgrade(r):
		return noUpgrade, true
	case r.Method != http.MethodGet:
		return wrongMethod, true
	}
	return 0, false
}

// answerFailedUpgrade is called by gorilla if it finds a fault that obstacleOf does not look
// for.
func (h *Handler) answerFailedUpgrade(w http.ResponseWriter, r *http.Request, status int, reason error) {
	if status < http.StatusInternalServerError {
		w.Header().Set("Sec-Websocket-Version", "13") // RFC 6455, section 4.4
		h.turnAway(w, badHandshake)
		return
	}
	h.turnAway(w, noHijacker, slog.Any("error", reason))
}

// maxStrange bounds how much of a client's text goes into one line of the log.
const maxStrange = 100

// strange makes a client's text fit for the log, even if the logger does not escape control
// characters.
func strange(s string) string {
	quoted := strconv.QuoteToASCII(cut(s))
	return quoted[1 : len(quoted)-1]
}

// cut returns the first bytes of a client's text.
func cut(s string) string { return s[:min(len(s), maxStrange)] }

// turnedAway counts the obstacles that the log reports now and then.
type turnedAway [obstacles]sparing.Counter
