package clienttest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// order is what a test in another process or language asks for.
type order struct {
	ID, Secret, Text string
	Row              json.RawMessage
	Node, Code, Ms   int
	On               bool
	IDs              []string
}

// orders are what a test may ask for, by name. What they return is the answer.
var orders = map[string]func(context.Context, *World, order) (any, error){
	"write": func(ctx context.Context, w *World, o order) (any, error) {
		return nil, w.Write(ctx, o.Node, o.ID, o.Row)
	},
	"delete": func(ctx context.Context, w *World, o order) (any, error) { return nil, w.Delete(ctx, o.Node, o.ID) },
	"notify": func(ctx context.Context, w *World, o order) (any, error) { return nil, w.Notify(ctx, o.Node, o.ID) },
	"publish": func(ctx context.Context, w *World, o order) (any, error) {
		return nil, w.Node(o.Node).Publish(ctx, shared.Topic(o.ID), o.Row)
	},
	"reconsider": func(ctx context.Context, w *World, o order) (any, error) {
		return nil, w.Node(o.Node).Reconsider(ctx, shared.Topic(o.ID))
	},
	"store": func(_ context.Context, w *World, o order) (any, error) {
		w.change(func() {
			for _, id := range o.IDs {
				w.rows[id] = o.Row
			}
		})
		return nil, nil
	},
	"hide":        func(_ context.Context, w *World, o order) (any, error) { w.Hide(o.ID, o.On); return nil, nil },
	"unavailable": func(_ context.Context, w *World, o order) (any, error) { w.Unavailable(o.ID, o.On); return nil, nil },
	"sick":        func(_ context.Context, w *World, o order) (any, error) { w.Sick(o.On); return nil, nil },
	"bus":         func(_ context.Context, w *World, o order) (any, error) { w.broker.SetDown(!o.On); return nil, nil },
	"cut":         func(_ context.Context, w *World, _ order) (any, error) { w.Front.Cut(); return nil, nil },
	"abandon":     func(_ context.Context, w *World, _ order) (any, error) { w.Front.Abandon(); return nil, nil },
	"freeze":      func(_ context.Context, w *World, o order) (any, error) { w.Front.Freeze(o.On); return nil, nil },
	"shut":        func(_ context.Context, w *World, o order) (any, error) { w.Front.Shut(o.On); return nil, nil },
	"slow": func(_ context.Context, w *World, o order) (any, error) {
		w.Front.Slow(time.Duration(o.Ms) * time.Millisecond)
		return nil, nil
	},
	"drain": func(ctx context.Context, w *World, _ order) (any, error) { return nil, w.Drain(ctx) },
	"start": func(_ context.Context, w *World, _ order) (any, error) { return nil, w.StartNode() },
	"expire": func(_ context.Context, w *World, o order) (any, error) {
		w.Expire(o.Secret, time.Duration(o.Ms)*time.Millisecond)
		return nil, nil
	},
	"lifetime": func(_ context.Context, w *World, o order) (any, error) {
		w.Last(o.Secret, time.Duration(o.Ms)*time.Millisecond)
		return nil, nil
	},
	"withdraw": func(_ context.Context, w *World, o order) (any, error) { w.Withdraw(o.Secret); return nil, nil },
	"revoke": func(ctx context.Context, w *World, o order) (any, error) {
		w.Withdraw(o.Secret)
		return nil, w.Node(o.Node).Revoke(ctx, o.Secret)
	},
	"disconnect": func(ctx context.Context, w *World, o order) (any, error) {
		return nil, w.Node(o.Node).Disconnect(ctx, o.Secret)
	},
	"say": func(_ context.Context, w *World, o order) (any, error) {
		for _, s := range w.Sessions() {
			_ = s.Send([]byte(o.Text)) // one that is gone need not hear it
		}
		return nil, nil
	},
	"dismiss": func(_ context.Context, w *World, o order) (any, error) {
		for _, s := range w.Sessions() {
			if err := s.Close(o.Code, o.Text); err != nil {
				return nil, err
			}
		}
		return nil, nil
	},
	"heard":   func(_ context.Context, w *World, _ order) (any, error) { return w.Heard(), nil },
	"figures": func(_ context.Context, w *World, _ order) (any, error) { return w.Figures(), nil },
}

// ServeHTTP does what a POST to /name asks for, with an order as JSON in its body.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	do, known := orders[r.URL.Path[1:]]
	var o order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil || !known {
		http.Error(rw, fmt.Sprintf("no order %s: %v", r.URL.Path, err), http.StatusBadRequest)
		return
	}
	answer, err := do(r.Context(), w, o)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(answer) // to a test that may have gone
}
