package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/redact"
	"github.com/entity-sync/entity-sync/internal/sparing"
	"github.com/entity-sync/entity-sync/shared"
)

// BuildBridge returns a Bridge over a queue of the application's own, made of
// plain functions: one that builds a publisher for an entity type, one that
// listens to an entity type, and one that fetches (a DatabaseHub's
// PullDataAndPush). It is the classic way in; New with a Bus says more: errors,
// acknowledgement, and lost connections.
//
// A publisher that panics fails the notification; nothing else is known of a
// publisher without an error to return. A subscriber function that panics fails
// the registration. Such a queue is taken to be connected once it was
// subscribed to; an empty message from it says that messages may have been
// missed.
func BuildBridge(publisher shared.EntityHandler, subscriber shared.EntityByteHandler, pull shared.EntityKeySecretByteHandler) *Bridge {
	b, err := New(Config{Fetch: shared.Collect(pull), Bus: &functionBus{
		build: publisher, listen: subscriber,
		publishers: make(map[shared.EntityType]shared.ByteHandler),
	}})
	if err != nil {
		panic(err) // cannot happen: New refuses nothing that is given here
	}
	return b
}

// RegisterEntityForSync starts listening for changes of an entity type whose
// rows Config.Fetch, or the function given to BuildBridge, fetches. Doing it again changes nothing.
func (b *Bridge) RegisterEntityForSync(entityType shared.EntityType) error {
	err := b.Register(entityType, b.fetch, EntityOptions{})
	if errors.Is(err, shared.ErrDuplicateEntity) {
		return nil
	}
	return err
}

// NotifyAllOfChange is Notify of one key with no deadline but Config.PublishTimeout.
func (b *Bridge) NotifyAllOfChange(key shared.EntityKey) error {
	return b.Notify(context.Background(), key)
}

// functionBus is a Bus made of the classic function types. It publishes for as long as
// the function takes, which knows of no context.
type functionBus struct {
	build  shared.EntityHandler
	listen shared.EntityByteHandler

	mu         sync.Mutex
	publishers map[shared.EntityType]shared.ByteHandler
}

var (
	_ bus.Blocking = (*functionBus)(nil)
	_ bus.Preparer = (*functionBus)(nil)
)

func (f *functionBus) Publish(_ context.Context, entity shared.EntityType, body []byte) (err error) {
	f.mu.Lock()
	publish := f.publishers[entity]
	f.mu.Unlock()
	if publish == nil {
		return shared.ErrUnknownEntity
	}
	defer recoverAs(&err, "the queue's publisher")
	publish(body)
	return nil
}

// Prepare implements Preparer. An entity type that is announced, and then registered,
// has one publisher.
func (f *functionBus) Prepare(entity shared.EntityType) (err error) {
	defer recoverAs(&err, "the queue's publisher")
	f.mu.Lock()
	built := f.publishers[entity] != nil
	f.mu.Unlock()
	if built {
		return nil
	}
	publish := f.build(entity)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publishers[entity] = publish
	return nil
}

func (f *functionBus) Subscribe(entity shared.EntityType, l bus.Listener) (err error) {
	if err := f.Prepare(entity); err != nil {
		return err
	}
	defer recoverAs(&err, "the queue's subscriber")
	f.listen(entity, func(body []byte) {
		if len(body) == 0 {
			l.Live() // as nsqbus.BuildSubscriber says it
			return
		}
		l.Message(body)
	})
	l.Live()
	return nil
}

// Blocks implements bus.Blocking: the functions know no contexts.
func (f *functionBus) Blocks() bool { return true }

// Close does nothing: the queue is the application's.
func (f *functionBus) Close(context.Context) error { return nil }

func recoverAs(err *error, who string) {
	switch r := recover().(type) {
	case nil:
	case error:
		*err = fmt.Errorf("%s panicked: %w", who, r)
	default:
		*err = fmt.Errorf("%s panicked: %v", who, r)
	}
}

// ClientBuilder connects one client through plain functions: its rows go to
// toWS, one call a row, from one goroutine at a time; getSecret is asked for the
// client's secret at first, when it subscribes and before every push, and about once a second
// while its rows may be out of date. The client is gone when dc has taken a value or was closed.
//
// getSecret must return at once, out of memory, and may be called by several goroutines at the
// same time. While a call waits, so does what needs its answer: ClientBuilder, sub, the client's
// next row, or the end of a client that dc says is gone. No other client waits. Bridge.Close
// waits for a call before a push, or for rows that are out of date, as long as the context of
// Close allows, and then returns an error; the goroutine of the call stays until getSecret
// returns. Where getSecret panics, the log says so, and the client's secret is the empty one.
func (b *Bridge) ClientBuilder(toWS shared.ByteHandler, getSecret func() string) (sub, unSub shared.EntityKeyHandler, dc chan bool) {
	f := &functionClient{bridge: b, toWS: toWS, getSecret: getSecret, mayBeStale: make(chan struct{}, 1)}
	f.client = b.NewClient(f, ClientOptions{})
	f.pollSecret()
	dc = make(chan bool, 1) // so that saying so never blocks, whatever this end does
	if !b.startWorker(func() { f.attend(dc) }) {
		f.client.Close()
	}
	return f.subscribe, f.client.Unsubscribe, dc
}

// functionClient is the Sink of a client made of functions. toWS may block, so
// a pump calls it, alive only while something is waiting.
type functionClient struct {
	bridge     *Bridge
	client     *Client
	toWS       shared.ByteHandler
	getSecret  func() string
	mayBeStale chan struct{} // the client's rows may be stale

	mu       sync.Mutex // guards what follows; the engine waits for it, see Sink
	queue    Queue
	current  *Slot // popped and about to be written; nil once it was dropped
	pumping  bool
	stale    int // subscriptions
	refused  uint64
	unsteady uint64
}

var (
	_ FreshnessSink = (*functionClient)(nil)
	_ EmptySink     = (*functionClient)(nil)
)

// askAgainEvery is how often the secret of a client is asked for whose rows are stale: they
// may be so because it has changed.
const askAgainEvery = time.Second

// untilAskAgain is askAgainEvery, shorter or longer by up to a half. All clients are stale in
// the same instant when the bus is lost: without jitter their secrets would be asked for in
// step.
func untilAskAgain() time.Duration {
	return askAgainEvery/2 + rand.N(askAgainEvery+1) //nolint:gosec // jitter is no secret
}

// attend closes the client when it is gone.
func (f *functionClient) attend(gone <-chan bool) {
	defer f.client.Close()
	var again <-chan time.Time
	for {
		switch stale := f.isStale(); {
		case !stale:
			again = nil
		case again == nil:
			again = time.After(untilAskAgain())
		}
		select {
		case <-gone:
			return
		case <-f.bridge.ctx.Done():
			return
		case <-f.mayBeStale:
		case <-again:
			again = nil
			f.pollSecret()
		}
	}
}

func (f *functionClient) subscribe(key shared.EntityKey) {
	f.pollSecret()
	err := f.client.Subscribe(key, SubscribeOptions{})
	if err == nil {
		return
	}
	f.mu.Lock()
	f.refused++
	n := f.refused
	f.mu.Unlock()
	if sparing.Says(n) {
		f.bridge.log.Warn("refusing a client's subscription", slog.Uint64("so_far", n), slog.Any("error", err))
	}
}

func (f *functionClient) Push(slot *Slot, u *Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pushLocked(slot, u)
}

func (f *functionClient) pushLocked(slot *Slot, u *Update) {
	f.queue.Put(slot, u)
	if !f.pumping {
		f.pumping = f.bridge.startWorker(f.pump)
	}
}

// PushEmpty implements EmptySink. It has the pump ask for the secret: perhaps there was
// nothing for who the client was.
func (f *functionClient) PushEmpty(slot *Slot, u *Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, waits := slot.Waiting(); !waits {
		f.pushLocked(slot, u)
	}
}

// AddStale implements FreshnessSink.
func (f *functionClient) AddStale(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale += n
	select {
	case f.mayBeStale <- struct{}{}:
	default:
	}
}

func (f *functionClient) isStale() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stale > 0
}

// Drop implements Sink. An update that the pump has taken is dropped too, as
// long as the pump still asks who the client is.
func (f *functionClient) Drop(slot *Slot) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.current == slot
	if taken {
		f.current = nil
	}
	return f.queue.Drop(slot) || taken
}

func (f *functionClient) next() (*Update, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slot, u, ok := f.queue.Pop()
	f.current, f.pumping = slot, ok
	return u, ok
}

// keep reports whether what the pump has taken was not dropped since, and from
// then on it cannot be.
func (f *functionClient) keep() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.current != nil
	f.current = nil
	return kept
}

func (f *functionClient) pump() {
	for u, ok := f.next(); ok; u, ok = f.next() {
		// A secret that has changed moves the client's subscriptions, which drops
		// what was fetched for who it was and owes it a fetch for who it is. A refusal
		// is dropped, too, and its subscription goes on.
		if !f.pollSecret() {
			f.pause()
		}
		if f.keep() {
			f.write(u.Rows)
		}
	}
}

func (f *functionClient) write(rows [][]byte) {
	defer func() {
		if r := recover(); r != nil {
			f.bridge.log.Error("a client's write function panicked",
				slog.String("panic", redact.Panic(r)), slog.String("stack", string(debug.Stack())))
		}
	}()
	for _, row := range rows {
		f.toWS(row)
	}
}

// pollSecret asks for the client's secret, whose changes nobody reports, and
// takes a new one over. A client whose secret cannot be had is taken to be
// nobody. It returns false where the secret differs at every call.
func (f *functionClient) pollSecret() (steady bool) {
	// Asked again after a change: another caller that asked at the same time may have
	// taken over an older answer.
	for range 3 {
		now := f.askSecret()
		if before, _ := f.client.identity(); before.Reveal() == now {
			return true
		}
		f.client.SetSecret(now)
	}
	return false
}

// pause keeps a client whose secret differs at every call from having its rows fetched
// again at once, for the next secret, and again.
func (f *functionClient) pause() {
	f.mu.Lock()
	f.unsteady++
	n := f.unsteady
	f.mu.Unlock()
	if sparing.Says(n) {
		f.bridge.log.Warn("a client's secret function returns something else at every call: the client gets no rows", slog.Uint64("so_far", n))
	}
	timer := time.NewTimer(untilAskAgain())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.bridge.ctx.Done():
	}
}

func (f *functionClient) askSecret() (secret string) {
	defer func() {
		if r := recover(); r != nil {
			f.bridge.log.Error("a client's secret function panicked",
				slog.String("panic", redact.Panic(r)), slog.String("stack", string(debug.Stack())))
		}
	}()
	return f.getSecret()
}
