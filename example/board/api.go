package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// API changes rows, over plain HTTP, for people who may. It answers with JSON, errors as
// {"error":"…"} in words for the page.
type API struct {
	node     string
	store    Store
	announce func(ctx context.Context, keys ...shared.EntityKey) bool
	bus      *Bus
	log      *slog.Logger
}

// maxBody is more than any change needs.
const maxBody = 4 << 10

// Mount makes mux serve the API.
func (a *API) Mount(mux *http.ServeMux) {
	mux.Handle("POST /api/items", a.handler(a.add))
	mux.Handle("PATCH /api/items/{id}", a.handler(a.change))
	mux.Handle("DELETE /api/items/{id}", a.handler(a.delete))
	// The endpoints that cause trouble on purpose are for the pages of this board alone.
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.refuse(w, r, errOtherSite) }))
	mux.Handle("PUT /api/bus", own.Handler(a.handler(a.switchBus)))
}

// refusal is an error whose text the client may see.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

var (
	errNoSecret    = refusal{http.StatusUnauthorized, "say who you are: Authorization: Bearer followed by your secret"}
	errManagerOnly = refusal{http.StatusForbidden, "only a manager may do that; a guest may change quantities"}
	errNotHere     = refusal{http.StatusForbidden, "the bus is switched on the machine that the board runs on"}
	errOtherSite   = refusal{http.StatusForbidden, "the bus is switched by the board's own pages"}
	errNoItem      = refusal{http.StatusNotFound, "there is no such item; somebody may have deleted it"}
	errNotJSON     = refusal{http.StatusUnsupportedMediaType, "the Content-Type must be application/json"}
	errTooLarge    = refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is larger than %d bytes", maxBody)}
)

// saved is the answer to a request that was carried out.
type saved struct {
	ID string `json:"id"`
	// Revision is that of the changed row.
	Revision int64 `json:"revision,omitempty"`
	// Announced is false if the other nodes will learn of the change only later.
	Announced bool `json:"announced"`
}

// handler authenticates, bounds the body, and turns f's results into an answer.
func (a *API) handler(f func(r *http.Request, role Role) (status int, answer any, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, answer, err := 0, any(nil), error(errNoSecret)
		if role := roleOfRequest(r); role != Nobody {
			status, answer, err = f(r, role)
		}
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		respond(w, status, answer)
	})
}

func roleOfRequest(r *http.Request) Role {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return Nobody
	}
	return RoleOf(secret)
}

func (a *API) add(r *http.Request, role Role) (int, any, error) {
	if role != Manager {
		return 0, nil, errManagerOnly
	}
	var n NewItem
	if err := decode(r, &n); err != nil {
		return 0, nil, err
	}
	if err := n.Validate(); err != nil {
		return 0, nil, refusal{http.StatusUnprocessableEntity, err.Error()}
	}
	id, err := a.store.Add(r.Context(), n, a.author(role))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, saved{ID: id, Announced: a.announce(r.Context(), append(itemKeys(id), wholeBoard)...)}, nil
}

func (a *API) change(r *http.Request, role Role) (int, any, error) {
	var c Change
	if err := decode(r, &c); err != nil {
		return 0, nil, err
	}
	if role != Manager && !c.OnlyQuantity() {
		return 0, nil, errManagerOnly
	}
	if err := c.Validate(); err != nil {
		return 0, nil, refusal{http.StatusUnprocessableEntity, err.Error()}
	}
	id := r.PathValue("id")
	revision, err := a.store.Change(r.Context(), id, c, a.author(role))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, saved{id, revision, a.announce(r.Context(), itemKeys(id)...)}, nil
}

func (a *API) delete(r *http.Request, role Role) (int, any, error) {
	if role != Manager {
		return 0, nil, errManagerOnly
	}
	id := r.PathValue("id")
	if err := a.store.Delete(r.Context(), id, a.author(role)); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, saved{ID: id, Announced: a.announce(r.Context(), append(itemKeys(id), wholeBoard)...)}, nil
}

func (a *API) switchBus(r *http.Request, _ Role) (int, any, error) {
	// The name is checked, too: another site's name may be made to lead here.
	if !isHere(r.RemoteAddr) || !isHere(r.Host) {
		return 0, nil, errNotHere
	}
	var want busRow
	if err := decode(r, &want); err != nil {
		return 0, nil, err
	}
	// If the person goes away, a switch that is half done would be worse than a whole one.
	if err := a.bus.Switch(context.WithoutCancel(r.Context()), want.Running); err != nil {
		a.log.Error("the bus was not switched as it was asked for", slog.Any("error", err))
		return 0, nil, refusal{http.StatusInternalServerError, err.Error()}
	}
	return http.StatusOK, want, nil
}

// isHere reports whether host, perhaps with a port, is this machine.
func isHere(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

func (a *API) author(role Role) Author { return Author{Role: role, Node: a.node, At: time.Now()} }

// decode reads a request's one JSON object.
func decode(r *http.Request, into any) error {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return errNotJSON
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("more than one JSON value")
	}
	var tooLarge *http.MaxBytesError
	var badType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.As(err, &badType):
		return refusal{http.StatusBadRequest, fmt.Sprintf("%q cannot be %s", badType.Field, badType.Value)}
	default:
		return refusal{http.StatusBadRequest, "the request is not the JSON object that is expected here"}
	}
}

// refuse answers with as much of err as the client may know.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var known refusal
	switch {
	case errors.As(err, &known):
	case errors.Is(err, shared.ErrNotFound):
		known = errNoItem
	case errors.Is(err, shared.ErrForbidden):
		known = errManagerOnly
	case errors.Is(err, errFull):
		known = refusal{http.StatusConflict, errFull.Error()}
	case errors.Is(err, errQuantity):
		known = refusal{http.StatusUnprocessableEntity, errQuantity.Error()}
	default:
		a.log.Error("a request failed", slog.String("method", r.Method), slog.Any("error", err))
		known = refusal{http.StatusInternalServerError, "the board could not do that; its log says why"}
	}
	if known.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	respond(w, known.status, map[string]string{"error": known.text})
}

func respond(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// Nothing can be done about a client that is gone.
	_ = json.NewEncoder(w).Encode(answer)
}
