package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
)

const (
	// CloseDisconnected says that the application asks the client to connect anew.
	CloseDisconnected = 4410
	// CloseRevoked says that the application has withdrawn the secret.
	CloseRevoked = 4503
)

// sessionsTopic carries orders about sessions from node to node.
const sessionsTopic shared.EntityType = "es.sessions"

// order is what a node tells all nodes to do with the sessions that go by a secret,
// or were being let in with it, before a time. The clocks of the nodes should agree:
// by as much as they differ, others may be meant. The secret itself is not told, only its digest.
type order struct {
	code   int // with which they are closed
	digest string
	given  time.Time
}

func digestOf(secret shared.Secret) string {
	sum := sha256.Sum256([]byte("entity-sync session\x00" + secret.Reveal()))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

var digestOfNone = digestOf(shared.NewSecret(""))

func (o order) text() string {
	return fmt.Sprintf("close %d %s %d", o.code, o.digest, o.given.UnixNano())
}

var errNoOrder = errors.New("this is no order about sessions")

func parseOrder(text string) (o order, err error) {
	parts := strings.Split(text, " ")
	if len(parts) != 4 || parts[0] != "close" {
		return o, errNoOrder
	}
	nanos, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil {
		return o, errNoOrder
	}
	if parts[2] == digestOfNone {
		return o, errNoOrder // it would send everybody away who is only just coming in
	}
	o = order{digest: parts[2], given: time.Unix(0, nanos)}
	switch parts[1] {
	case strconv.Itoa(CloseDisconnected):
		o.code = CloseDisconnected
	case strconv.Itoa(CloseRevoked):
		o.code = CloseRevoked
	default:
		return o, errNoOrder
	}
	return o, nil
}

// again is what a node says that may have missed orders: whoever has given some
// lately repeats them.
const again = "again"

const (
	// repeatFor is how long an order is repeated to nodes that missed it.
	repeatFor = 10 * time.Minute

	// maxRepeated bounds the orders that a node remembers to have given.
	maxRepeated = 10_000
)

// orders is one node's part in them. What is heard is carried out by a goroutine
// that lives as long as there is something to do, because the bus does not wait.
type orders struct {
	disabled error // why there are none

	mu      sync.Mutex
	heard   map[string]order // by digest, to be carried out
	lately  map[string]order // by digest, heard in the last while, for who is only just coming in
	given   map[string]order // by digest, in the last while, by this node
	ask     bool             // orders may have been missed
	repeat  bool             // somebody else has missed some
	say     []string         // what is still to be said of that
	working bool
}

// listenToOrders joins the sessions' topic. Where that cannot be, Revoke says so.
func (h *Handler) listenToOrders(b *bridge.Bridge) {
	h.orders.disabled = b.RegisterTopic(sessionsTopic, bridge.Topic{
		Hear: func(text string) {
			if text == again {
				h.note(func(o *orders) { o.repeat = len(o.given) > 0 })
				return
			}
			if order, err := parseOrder(text); err == nil {
				h.note(func(o *orders) { o.hear(order) })
			}
		},
		Missed: func() {
			if len(h.all()) > 0 { // at the start nobody is there to be sent away
				h.note(func(o *orders) { o.ask = true })
			}
		},
	})
	if err := h.orders.disabled; err != nil {
		h.config.Logger.Warn("Revoke and Disconnect will not work", slog.Any("error", err))
	}
}

// remember adds an order, in place of an earlier one for the same sessions. Where
// there are too many to remember, the earliest is forgotten.
func remember(all map[string]order, o order) map[string]order {
	if all == nil {
		all = make(map[string]order)
	}
	if old, ok := all[o.digest]; ok && old.given.After(o.given) {
		return all
	}
	all[o.digest] = o
	if len(all) > maxRepeated {
		earliest := o
		for _, other := range all {
			if other.given.Before(earliest.given) {
				earliest = other
			}
		}
		delete(all, earliest.digest)
	}
	return all
}

func (o *orders) hear(order order) {
	o.heard = remember(o.heard, order)
	o.lately = remember(o.lately, order)
}

// obeyed ends a session that has just become somebody whom an order is about: it
// was being let in while the order came.
func (h *Handler) obeyed(s *session) {
	h.orders.mu.Lock()
	var lately map[string]order
	if len(h.orders.lately) > 0 {
		digest := digestOf(s.who().secret)
		lately = map[string]order{digest: h.orders.lately[digest]}
	}
	h.orders.mu.Unlock()
	if lately != nil {
		carryOut(lately, s)
	}
}

// note changes what is to be done, and sees to it that it is.
func (h *Handler) note(change func(*orders)) {
	h.orders.mu.Lock()
	defer h.orders.mu.Unlock()
	change(&h.orders)
	if !h.orders.working && h.start(h.obey) {
		h.orders.working = true
	}
}

// obey carries orders out, and repeats some, until there is nothing to do. What was
// heard comes first: repeating takes its time.
func (h *Handler) obey() {
	for {
		heard, text := h.orders.take()
		if heard == nil && text == "" || h.leaving.Err() != nil {
			return
		}
		carryOut(heard, h.all()...)
		if text == "" {
			continue
		}
		if err := h.config.Bridge.Tell(h.leaving, sessionsTopic, text); err != nil {
			h.config.Logger.Debug("an order about sessions was not repeated", slog.Any("error", err))
		}
	}
}

// take returns what is to be carried out and the next text to say. Without either
// the goroutine that asked counts as ended.
func (o *orders) take() (heard map[string]order, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	heard, o.heard = o.heard, nil
	if o.repeat {
		o.repeat = false
		o.say = nil // this says all of it
		for _, given := range o.given {
			if time.Since(given.given) < repeatFor {
				o.say = append(o.say, given.text())
			}
		}
	}
	switch {
	case o.ask:
		o.ask, text = false, again
	case len(o.say) > 0:
		text, o.say = o.say[0], o.say[1:]
	}
	o.working = heard != nil || text != ""
	return heard, text
}

// carryOut closes those sessions that the orders are about.
func carryOut(orders map[string]order, sessions ...*session) {
	for _, s := range sessions {
		id := s.who()
		o, ok := orders[digestOf(id.secret)]
		if !ok || !id.since.Before(o.given) {
			continue
		}
		reason := "the secret was withdrawn"
		if o.code == CloseDisconnected {
			reason = "connect anew"
		}
		s.goAway(o.code, reason)
	}
}

// Revoke ends the sessions of every node that go by a secret, with close code
// CloseRevoked, which tells them not to come back. It does not keep anybody out:
// withdraw the secret first, so that fetch handlers, Authenticate and VerifySecret
// refuse it. When Revoke returns nil every node has heard of it or will, also one
// that is cut off from the bus for some minutes, as long as this node lives.
//
// The empty secret is an error: each client has it until it says another. The secret
// itself is not told on the bus, only its SHA-256 digest.
func (h *Handler) Revoke(ctx context.Context, secret string) error {
	return h.order(ctx, CloseRevoked, secret)
}

// Disconnect is Revoke with close code CloseDisconnected: the clients connect anew
// and are authenticated again.
func (h *Handler) Disconnect(ctx context.Context, secret string) error {
	return h.order(ctx, CloseDisconnected, secret)
}

func (h *Handler) order(ctx context.Context, code int, secret string) error {
	if h.config.Bridge == nil {
		return errors.New("web: a handler without a Bridge cannot reach other nodes")
	}
	if secret == "" {
		return errors.New("web: the empty secret is everybody's who has not said one yet: its sessions cannot be ended")
	}
	if err := h.orders.disabled; err != nil {
		return fmt.Errorf("web: sessions cannot be ended: %w", err)
	}
	o := order{code: code, digest: digestOf(shared.NewSecret(secret)), given: time.Now()}
	h.note(func(all *orders) { // at once here, whatever the bus does
		all.given = remember(all.given, o)
		all.hear(o)
	})
	if err := h.config.Bridge.Tell(ctx, sessionsTopic, o.text()); err != nil {
		return fmt.Errorf("web: ending sessions on other nodes: %w", err)
	}
	return nil
}
