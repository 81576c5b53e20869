package web

import (
	"errors"
	"log/slog"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// given is an order of this node's own.
type given struct {
	order order
	at    time.Time
}

// repeatFor is how long an order is repeated to nodes that missed it.
const repeatFor = 10 * time.Minute

// giveLocked remembers an order of this node's own, to repeat it.
func (o *orders) giveLocked(order order, now time.Time) {
	forget := 0
	for forget < len(o.given) && (now.Sub(o.given[forget].at) >= repeatFor || len(o.given)-forget >= maxOrders) {
		forget++
	}
	o.given = append(o.given[forget:], given{order, now})
}

// says is what there is to say to the other nodes about orders.
type says struct {
	ask    bool // that orders may have been missed here
	repeat bool // the given orders: somebody else has missed some
}

func (s says) nothing() bool { return s == says{} }

func (s says) and(o says) says { return says{s.ask || o.ask, s.repeat || o.repeat} }

// sayEvery bounds how often a node asks for orders, and repeats its own, however often
// others ask for them.
const sayEvery = 500 * time.Millisecond

// again is what a node says that may have missed orders: whoever has given some
// lately repeats them.
const again = "again"

// haveSaid has something said. A goroutine does it that lives as long as there is
// something to say. It is not the one that carries orders out: the bus takes its time for
// each message, and there can be a hundred of them.
func (h *Handler) haveSaid(what says) {
	o := &h.orders
	o.mu.Lock()
	defer o.mu.Unlock()
	what.repeat = what.repeat && len(o.given) > 0
	if o.say = o.say.and(what); !o.say.nothing() && !o.saying {
		o.saying = h.start(h.say)
	}
}

// say says what there is to say. What did not get through is said again later.
func (h *Handler) say() {
	for {
		what, texts, wait := h.takeTexts()
		switch {
		case len(texts) > 0:
			if err := h.config.Bridge.Publish(h.leaving, sessionsTopic, texts...); err != nil {
				h.config.Logger.Debug("orders about sessions were not repeated", slog.Any("error", err))
				if !errors.Is(err, shared.ErrClosed) {
					h.haveSaid(what)
				}
			}
		case wait == 0:
			return
		default:
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-h.leaving.Done():
			}
			timer.Stop()
		}
		if h.leaving.Err() != nil {
			return // Close sends everybody away
		}
	}
}

// takeTexts returns what is to be said now, and how long it is until there is something to
// be said. Without anything the goroutine that asked counts as ended.
func (h *Handler) takeTexts() (what says, texts []string, wait time.Duration) {
	o := &h.orders
	o.mu.Lock()
	defer o.mu.Unlock()
	what = o.say
	texts, wait = o.textsLocked(o.now())
	o.saying = len(texts) > 0 || wait > 0
	return what, texts, wait
}

// textsLocked takes what is to be said now, and returns how long it is until there is
// something to be said; 0 where there is nothing.
func (o *orders) textsLocked(now time.Time) (texts []string, next time.Duration) {
	if o.say.nothing() {
		return nil, 0
	}
	if next = o.sayNext.Sub(now); next > 0 {
		return nil, next
	}
	if o.say.ask {
		texts = append(texts, again)
	}
	if o.say.repeat {
		for _, g := range o.given {
			if age := now.Sub(g.at).Truncate(time.Microsecond); age < repeatFor {
				g.order.age = age
				texts = append(texts, g.order.text())
			}
		}
	}
	o.say, o.sayNext = says{}, now.Add(sayEvery)
	return texts, 0
}
