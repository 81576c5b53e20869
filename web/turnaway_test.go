package web_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web"
)

// loud counts the lines of a log that are for every operator, and the others, which
// say the same.
func loud(log, message string) (loud, quiet int) {
	for line := range strings.Lines(log) {
		switch {
		case !strings.Contains(line, message):
		case strings.Contains(line, "level=DEBUG"):
			quiet++
		default:
			loud++
		}
	}
	return loud, quiet
}

// stranger is in all that these requests say, and must be in no answer.
const stranger = "canary-of-a-stranger"

// upgradeRequest is one that a node takes.
func upgradeRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/"+stranger+"?"+stranger, nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "X-Stranger": stranger, "Sec-WebSocket-Protocol": stranger,
	} {
		r.Header.Set(name, value)
	}
	return r
}

// A request that a deployment has spoilt is answered with what is missing, and the log
// says so the 1st, 2nd, 4th, 8th … time.
func TestWhatADeploymentSpoilsIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(r *http.Request)
		status int
		answer string
		log    string
	}{
		"a proxy that takes Upgrade":     {func(r *http.Request) { r.Header.Del("Upgrade") }, 400, "a proxy in between may have removed them", "without Upgrade"},
		"a proxy that takes Connection":  {func(r *http.Request) { r.Header.Set("Connection", "close") }, 400, "Connection: Upgrade", "without Upgrade"},
		"a proxy that speaks HTTP/1.0":   {func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 }, 400, "HTTP/1.0", "HTTP/1.0"},
		"a proxy that speaks HTTP/2":     {func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 }, 400, "HTTP/2", "HTTP/2"},
		"a POST":                         {func(r *http.Request) { r.Method = http.MethodPost }, 405, "GET", "method is not GET"},
		"a proxy that takes the key":     {func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") }, 400, "Sec-WebSocket-Key", "Sec-WebSocket-Key"},
		"a proxy that takes the version": {func(r *http.Request) { r.Header.Del("Sec-WebSocket-Version") }, 400, "Sec-WebSocket-Version", "Sec-WebSocket-Version"},
		"a middleware that hides more":   {func(*http.Request) {}, 500, "its log says why", "hides http.Hijacker"},
		"a proxy that changes Host": {func(r *http.Request) {
			r.Host = "backend:8080"
			r.Header.Set("Origin", "https://shop.example.com")
		}, 403, "may have changed the Host", "AllowedOrigins"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, web.Config{}, echo)
			const times = 100
			for range times {
				r, w := upgradeRequest(), httptest.NewRecorder() // which has no Hijack
				c.spoil(r)
				s.handler.ServeHTTP(w, r)
				if body := w.Body.String(); w.Code != c.status || !strings.Contains(body, c.answer) || strings.Contains(body, stranger) {
					t.Fatalf("answered with %d and %q, want %d and what is missing (%q)", w.Code, body, c.status, c.answer)
				}
			}
			log := s.log.String()
			if said, quiet := loud(log, c.log); said != 7 || quiet != times-7 {
				t.Errorf("%d lines say it and %d at the debug level, want 7 and the rest:\n%.2000s", said, quiet, log)
			}
			if strings.Contains(log, stranger) {
				t.Errorf("the log quotes the request:\n%.2000s", log)
			}
		})
	}
}

// A browser speaks HTTP/2 to a TLS server that offers it: a real one.
func TestARequestOverHTTP2(t *testing.T) {
	s := start(t, web.Config{}, echo)
	server := httptest.NewUnstartedServer(s.handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.ProtoMajor != 2 || response.StatusCode != 400 || !strings.Contains(string(body), "HTTP/2") {
		t.Errorf("answered over %s with %s and %q, %v; want 400 and why", response.Proto, response.Status, body, err)
	}
}

// A middleware's ResponseWriter that has Unwrap hides nothing.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestAMiddlewareAroundTheHandler(t *testing.T) {
	for name, c := range map[string]struct {
		around func(http.ResponseWriter) http.ResponseWriter
		status int
	}{
		"it hides http.Hijacker": {func(w http.ResponseWriter) http.ResponseWriter { return struct{ http.ResponseWriter }{w} }, 500},
		"it has Unwrap":          {func(w http.ResponseWriter) http.ResponseWriter { return wrapped{w} }, 101},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, web.Config{}, echo)
			inner := s.Server.Config.Handler
			s.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(c.around(w), r) })
			if got := s.status(t, nil).StatusCode; got != c.status {
				t.Errorf("answered with %d, want %d", got, c.status)
			}
			hidden := strings.Contains(s.log.String(), `level=ERROR msg="no client can connect: a middleware around the handler hides http.Hijacker`)
			if hidden != (c.status == 500) {
				t.Errorf("the log says that http.Hijacker is hidden: %v\n%s", hidden, s.log.String())
			}
		})
	}
}

// Whatever the application's logger does with control characters: what a stranger says
// is short and plain in the line about its origin, and about its address.
func TestWhatAStrangerSaysIsPlainInTheLog(t *testing.T) {
	lines := make(chan slog.Record, 10)
	s := start(t, web.Config{}, echo)
	h, err := web.New(web.Config{Bridge: s.bridge, Logger: slog.New(recorder{lines})})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(context.Background())
	r := upgradeRequest()
	strange := "http://evil\n\x1b[31m\u202e" + strings.Repeat("\x07", 1000)
	r.Host = strange
	r.Header.Set("Origin", strange)
	h.ServeHTTP(httptest.NewRecorder(), r)
	line := <-lines
	told := 0
	line.Attrs(func(a slog.Attr) bool {
		text := a.Value.String()
		for _, c := range text {
			if c < ' ' || c > '~' {
				t.Errorf("%s holds %q", a.Key, c)
			}
		}
		if len(text) > 400 { // a byte is four, as \x07
			t.Errorf("%s has %d bytes", a.Key, len(text))
		}
		if strings.HasPrefix(text, `http://evil\n`) {
			told++
		}
		return true
	})
	if told != 2 {
		t.Errorf("the line has %d texts of the stranger's, want the origin and the host", told)
	}
}

type recorder struct{ lines chan slog.Record }

func (r recorder) Enabled(_ context.Context, l slog.Level) bool     { return l > slog.LevelInfo }
func (r recorder) Handle(_ context.Context, line slog.Record) error { r.lines <- line; return nil }
func (r recorder) WithAttrs([]slog.Attr) slog.Handler               { return r }
func (r recorder) WithGroup(string) slog.Handler                    { return r }

// Too many clients, and what Authenticate says, are logged as well: the former for every
// operator, the latter, which is nothing unusual, at the debug level.
func TestRefusalsOfTheApplicationsAreLogged(t *testing.T) {
	s := start(t, web.Config{
		MaxSessions: 1, MaxSessionsPerAddr: 1,
		RemoteAddr: func(r *http.Request) string { return r.Header.Get("X-From") },
		Authenticate: func(r *http.Request) (string, time.Time, error) {
			switch r.Header.Get("X-Who") {
			case "nobody":
				return "", time.Time{}, fmt.Errorf("%s: %w", mark, shared.ErrUnauthenticated)
			case "banned":
				return "", time.Time{}, fmt.Errorf("%s: %w", mark, shared.ErrForbidden)
			case "late":
				return mark, time.Now().Add(-time.Hour), nil
			}
			return mark, time.Time{}, nil
		},
	}, echo)
	for who, want := range map[string]string{
		"nobody": "refusing a request: Authenticate returned ErrUnauthenticated",
		"banned": "refusing a request: Authenticate returned ErrForbidden",
		"late":   "refusing a request: the secret that Authenticate returned has expired",
	} {
		s.status(t, http.Header{"X-Who": {who}})
		if said, quiet := loud(s.log.String(), want); said != 0 || quiet != 1 {
			t.Errorf("%s: %d lines, and %d at the debug level, want 1 there:\n%s", who, said, quiet, s.log.String())
		}
	}
	s.dial(t)
	s.status(t, http.Header{"X-From": {"elsewhere"}})
	if said, _ := loud(s.log.String(), "as many as MaxSessions allows"); said != 1 {
		t.Errorf("%d lines say that the node is full, want 1:\n%s", said, s.log.String())
	}
}
