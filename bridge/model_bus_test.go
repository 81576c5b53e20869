package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/bridge/membus"
	"github.com/entity-sync/entity-sync/internal/echo"
	"github.com/entity-sync/entity-sync/shared"
)

// pairBroker is two brokers of the model. A topic on one may be paused: what is
// published there is acknowledged, and handed on when it goes on.
type pairBroker struct {
	brokers [2]membus.Broker

	mu     sync.Mutex
	paused [2]bool
	kept   [2][]func()
	nodes  map[*pairBus]bool
}

func (p *pairBroker) join() *pairBus {
	b := &pairBus{pair: p}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for i := range b.wires {
		b.wires[i] = &wire{bus: b, number: i, node: p.brokers[i].NewNode(), changed: time.Now()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nodes == nil {
		p.nodes = make(map[*pairBus]bool)
	}
	p.nodes[b] = true
	return b
}

func (p *pairBroker) setDown(down bool) {
	for i := range p.brokers {
		p.brokers[i].SetDown(down)
	}
	p.touch()
}

func (p *pairBroker) pause(i int, paused bool) {
	p.mu.Lock()
	p.paused[i] = paused
	var kept []func()
	if !paused {
		kept, p.kept[i] = p.kept[i], nil
	}
	p.mu.Unlock()
	for _, deliver := range kept {
		deliver()
	}
	p.touch()
}

// touch begins the time anew after which silence must have been noticed.
func (p *pairBroker) touch() {
	for _, b := range p.all() {
		for _, w := range b.wires {
			w.set(func() { w.changed = time.Now() })
		}
	}
}

func (p *pairBroker) all() (all []*pairBus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for b := range p.nodes {
		all = append(all, b)
	}
	return all
}

// keep keeps what a wire is to deliver, where the topic is paused.
func (p *pairBroker) keep(i int, deliver func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused[i] {
		p.kept[i] = append(p.kept[i], deliver)
	}
	return p.paused[i]
}

func (p *pairBroker) isPaused(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused[i]
}

// heal hands on what is paused. A node that is cut off stays so: it is to be brought
// up to date all the same.
func (p *pairBroker) heal() {
	for i := range p.brokers {
		p.pause(i, false)
	}
}

// pairBus is one node's place on two brokers. It does what nsqbus does on several
// nsqd.
type pairBus struct {
	pair   *pairBroker
	wires  [2]*wire
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	listener bus.Listener
	reach    echo.Reach[int]
}

var _ bus.Spreader = (*pairBus)(nil)

// wire is a node's connection to one broker.
type wire struct {
	bus    *pairBus
	number int
	node   *membus.Node

	mu       sync.Mutex
	deserted bool      // the subscription is gone without a word
	isCut    bool      // the broker cannot be reached
	up       bool      // the broker is there
	changed  time.Time // when anything happened to the wire last
	ear      *echo.Ear
	stop     context.CancelFunc // of the ear
}

func (w *wire) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

var errCut = errors.New("cut off from this broker")

// publish publishes by way of one broker.
func (w *wire) publish(ctx context.Context, body []byte) error {
	var isCut bool
	w.set(func() { isCut = w.isCut })
	if isCut {
		return fmt.Errorf("%w: %w", shared.ErrUnavailable, errCut)
	}
	return w.node.Publish(ctx, items, body)
}

// Publish implements bus.Bus.
func (b *pairBus) Publish(ctx context.Context, _ shared.EntityType, body []byte) error {
	_, err := b.publish(ctx, body)
	return err
}

func (b *pairBus) publish(ctx context.Context, body []byte) (i int, err error) {
	order := [...]int{0, 1}
	b.mu.Lock()
	if b.reach.State(0) != echo.Live {
		order = [...]int{1, 0}
	}
	b.mu.Unlock()
	for _, i = range order {
		if err = b.wires[i].publish(ctx, body); err == nil {
			return i, nil
		}
	}
	return i, err
}

// Spread implements bus.Spreader.
func (b *pairBus) Spread(ctx context.Context, _ shared.EntityType, body []byte) error {
	i, err := b.publish(ctx, body)
	if err == nil {
		_ = b.wires[1-i].publish(ctx, body)
	}
	return err
}

// Subscribe implements bus.Bus.
func (b *pairBus) Subscribe(entity shared.EntityType, l bus.Listener) error {
	b.listener = l
	for _, w := range b.wires {
		if err := w.node.Subscribe(entity, w); err != nil {
			return err
		}
	}
	return nil
}

// Close implements bus.Bus.
func (b *pairBus) Close(ctx context.Context) error {
	b.cancel()
	b.pair.mu.Lock()
	delete(b.pair.nodes, b)
	b.pair.mu.Unlock()
	b.work.Wait()
	return errors.Join(b.wires[0].node.Close(ctx), b.wires[1].node.Close(ctx))
}

func (b *pairBus) become(i int, now echo.State, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch live, lost := b.reach.Set(i, now); {
	case b.ctx.Err() != nil:
	case live:
		b.listener.Live()
	case lost:
		b.listener.Lost(err)
	}
}

// Message implements bus.Listener.
func (w *wire) Message(body []byte) {
	body = append([]byte(nil), body...)
	if !w.bus.pair.keep(w.number, func() { w.deliver(body) }) {
		w.deliver(body)
	}
}

func (w *wire) deliver(body []byte) {
	var ear *echo.Ear
	w.set(func() {
		if !w.deserted && !w.isCut {
			ear = w.ear
		}
	})
	if ear != nil && !ear.Hear(body) {
		w.bus.listener.Message(body)
	}
}

// Live implements bus.Listener.
func (w *wire) Live() {
	w.set(func() { w.up = true })
	w.connect()
}

// Lost implements bus.Listener.
func (w *wire) Lost(err error) {
	w.set(func() { w.up = false })
	w.disconnect(err)
}

// cut cuts the wire, or heals it.
func (w *wire) cut(cut bool) {
	var was bool
	w.set(func() { was, w.isCut, w.changed = w.isCut, cut, time.Now() })
	switch {
	case cut:
		w.disconnect(errCut)
	case was:
		w.connect()
	}
}

// desert takes the subscription away, and says nothing.
func (w *wire) desert() { w.set(func() { w.deserted, w.changed = true, time.Now() }) }

func (w *wire) connect() {
	w.mu.Lock()
	if w.isCut || !w.up || w.stop != nil || w.bus.ctx.Err() != nil {
		w.mu.Unlock()
		return
	}
	ctx, stop := context.WithCancel(w.bus.ctx)
	w.stop = stop
	w.mu.Unlock()
	w.subscribe()
	w.bus.become(w.number, echo.Live, nil)
	w.bus.work.Go(func() { w.listen(ctx) })
}

func (w *wire) disconnect(err error) {
	w.mu.Lock()
	stop := w.stop
	w.stop, w.ear = nil, nil
	w.mu.Unlock()
	if stop != nil {
		stop()
		w.bus.become(w.number, echo.Gone, err)
	}
}

func (w *wire) subscribe() *echo.Ear {
	ear := echo.New("node", items, w.publish)
	w.set(func() { w.deserted, w.ear = false, ear })
	return ear
}

// listen subscribes anew whenever the subscription has fallen silent.
func (w *wire) listen(ctx context.Context) {
	var ear *echo.Ear
	w.set(func() { ear = w.ear })
	for ear != nil && ctx.Err() == nil {
		err := ear.Listen(ctx, func() { w.bus.become(w.number, echo.Live, nil) })
		if !errors.Is(err, echo.ErrSilent) {
			return
		}
		w.bus.become(w.number, echo.Silent, err)
		ear = w.subscribe()
	}
}

// hidesSilence reports whether the node must have noticed by now that it hears nothing.
func (w *wire) hidesSilence() (must bool) {
	paused := w.bus.pair.isPaused(w.number)
	w.set(func() {
		must = paused && w.up && !w.isCut && time.Since(w.changed) > echo.Patience+time.Second
	})
	return must
}
