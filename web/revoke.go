package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// sessionsTopic carries orders about sessions from node to node.
const sessionsTopic shared.EntityType = "es.sessions"

// listenToOrders joins the sessions' topic. Where that cannot be, Revoke says so.
func (h *Handler) listenToOrders(b *bridge.Bridge) {
	h.orders.news = make(chan struct{}, 1)
	h.orders.disabled = b.RegisterTopic(sessionsTopic, bridge.Topic{
		Message: func(text string) {
			if text == again {
				h.haveSaid(says{repeat: true})
				return
			}
			if order, err := parseOrder(text); err == nil {
				h.note(func(o *orders) bool { return o.hearLocked(order, h.orders.now()) })
			}
		},
		Gap: func() {
			if h.anybody() {
				h.haveSaid(says{ask: true})
			}
		},
	})
	if err := h.orders.disabled; err != nil {
		h.config.Logger.Warn("Revoke and Disconnect will not work", slog.Any("error", err))
	}
}

// obeys has orders find the session by the secret that it has now, and ends it if one is
// about it: it was being let in while the order came.
func (h *Handler) obeys(s *session) {
	if code := h.enlist(s); code != 0 {
		s.closeBy(code)
	}
}

// enlist is obeys for a session that has not begun: it returns how it is to end, or 0.
func (h *Handler) enlist(s *session) (code int) {
	h.orders.mu.Lock()
	defer h.orders.mu.Unlock()
	id := s.who()
	d := digestOf(id.secret)
	h.orders.enterLocked(s, d)
	return h.orders.verdictLocked(d, id.since)
}

// note changes what is to be done. A goroutine does it that lives as long as there is
// something to do, because the bus does not wait.
func (h *Handler) note(change func(*orders) (more bool)) {
	h.orders.mu.Lock()
	defer h.orders.mu.Unlock()
	switch {
	case !change(&h.orders):
	case h.orders.working:
		select {
		case h.orders.news <- struct{}{}:
		default: // there is some already
		}
	default:
		h.orders.working = h.start(h.obey)
	}
}

// obey carries orders out until there are none.
func (h *Handler) obey() {
	for {
		due, wait := h.takeOrders()
		for s, r := range due {
			h.carryOut(s, r)
		}
		switch {
		case len(due) > 0:
		case wait == 0:
			return
		default:
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-h.orders.news:
			case <-h.leaving.Done():
			}
			timer.Stop()
		}
		if h.leaving.Err() != nil {
			return // Close sends everybody away
		}
	}
}

// takeOrders returns what is to be carried out now, and how long it is until there is
// more. Without anything the goroutine that asked counts as ended.
func (h *Handler) takeOrders() (due map[subject]reach, wait time.Duration) {
	o := &h.orders
	o.mu.Lock()
	defer o.mu.Unlock()
	due, wait = o.dueLocked(o.now())
	o.working = len(due) > 0 || wait > 0
	return due, wait
}

// carryOut ends those sessions that an order is about.
func (h *Handler) carryOut(about subject, r reach) {
	for _, s := range h.orders.sessions(about.digest) {
		if id := s.who(); digestOf(id.secret) == about.digest && r.covers(id.since) {
			s.closeBy(about.code)
		}
	}
}

// closeBy sends a client away because of an order.
func (s *session) closeBy(code int) {
	reason := "the secret was withdrawn"
	if code == wire.CloseDisconnected {
		reason = "connect anew"
	}
	s.closeGracefully(code, reason)
}

// Revoke ends the sessions of every node that go by a secret, with close code
// wire.CloseRevoked, which tells them not to come back. It does not keep anybody out:
// withdraw the secret first, so that fetch handlers, Authenticate and VerifySecret
// refuse it. When Revoke returns nil every node has heard of it or will, also one
// that is cut off from the bus for some minutes, as long as this node lives.
//
// On each node it is about the sessions that there are when the node hears of it, and
// those that are being let in then. It spares those whose secret the application is
// asked about later. No clocks are compared.
//
// The empty secret is an error: each client has it until it says another. The secret
// itself is not told on the bus, only its SHA-256 digest.
func (h *Handler) Revoke(ctx context.Context, secret string) error {
	return h.order(ctx, wire.CloseRevoked, secret)
}

// Disconnect is Revoke with close code wire.CloseDisconnected: the clients connect anew
// and are authenticated again. A node waits a fifth of a second before it sends them
// away, so that they come to none that has not heard of it.
func (h *Handler) Disconnect(ctx context.Context, secret string) error {
	return h.order(ctx, wire.CloseDisconnected, secret)
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
	o := newOrder(code, secret)
	h.note(func(all *orders) bool { // here, whatever the bus does
		now := h.orders.now()
		all.giveLocked(o, now)
		return all.hearLocked(o, now)
	})
	if err := h.config.Bridge.Publish(ctx, sessionsTopic, o.text()); err != nil {
		return fmt.Errorf("web: ending sessions on other nodes: %w", err)
	}
	return nil
}
