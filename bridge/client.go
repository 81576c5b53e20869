package bridge

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/entity-sync/entity-sync/internal/compact"
	"github.com/entity-sync/entity-sync/shared"
)

// Client is one connected client: its secret and its subscriptions. Its methods may be called
// from any goroutine, and never wait for a fetch.
type Client struct {
	bridge    *Bridge
	sink      Sink
	freshness FreshnessSink // the same, nil where it is none
	limit     int
	number    uint64       // where clients take turns
	stale     atomic.Int64 // subscriptions that are

	// refused is how many of subs are of keys that the client may not see. No view has such a
	// subscription as a member any more. The subscription is kept because its slot may hold the
	// news.
	refused atomic.Int64

	mu         sync.Mutex // guards what follows; waits for views whose result is handed out
	secret     shared.Secret
	generation uint32 // of the secret: how often it changed
	closed     bool
	subs       compact.Set[shared.EntityKey, *subscription]
}

// ClientOptions describes a new client.
type ClientOptions struct {
	// Secret is what the client's rows are fetched with until SetSecret.
	Secret shared.Secret

	// MaxSubscriptions bounds how many keys the client may watch. Zero means 1,000. A number
	// below zero means no bound.
	MaxSubscriptions int
}

const defaultMaxSubscriptions = 1000

// NewClient adds a client whose updates go to sink, until Close.
func (b *Bridge) NewClient(sink Sink, o ClientOptions) *Client {
	if o.MaxSubscriptions == 0 {
		o.MaxSubscriptions = defaultMaxSubscriptions
	}
	b.counts.clients.Add(1)
	c := &Client{bridge: b, sink: sink, secret: o.Secret, limit: o.MaxSubscriptions, number: b.counts.clientsEver.Add(1)}
	c.freshness, _ = sink.(FreshnessSink)
	return c
}

// Number is what the log calls the client. The Bridge counts its clients from 1.
func (c *Client) Number() uint64 { return c.number }

// SubscribeOptions says what a subscription gives besides changes.
type SubscribeOptions struct {
	// Snapshot asks for the key's rows as they are now, and again whenever they
	// differ after the client's secret changed.
	Snapshot bool

	// Version is the version of the update that the client last got, perhaps from another node.
	// If a snapshot would have that version, the client gets an update of KindCurrent in its
	// place. The zero Version means that the client has none.
	Version Version
}

// Subscribe makes the client a watcher of key. A change that is announced after Subscribe has
// returned reaches the client. Subscribing to the key again changes nothing, but may ask for
// another snapshot. Subscribe returns an error wrapping shared.ErrBadKey, ErrUnknownEntity,
// ErrTooManySubscriptions or ErrClosed.
func (c *Client) Subscribe(key shared.EntityKey, o SubscribeOptions) error {
	if err := key.Validate(); err != nil {
		return err
	}
	ent, err := c.bridge.entity(key.Entity)
	if err != nil {
		return err
	}
	if ent.announced {
		return shared.ErrUnknownEntity
	}
	for {
		secret, generation := c.identity()
		scope := ent.scopeOf(secret) // calls the application: no lock held
		if done, err := c.subscribe(ent, key, o, scope, generation); done {
			return err
		}
	}
}

func (c *Client) identity() (secret shared.Secret, generation uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secret, c.generation
}

// subscribe does nothing if the secret has changed since its scope was computed.
func (c *Client) subscribe(ent *entity, key shared.EntityKey, o SubscribeOptions, s scope, generation uint32) (done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return true, shared.ErrClosed
	}
	if c.generation != generation {
		return false, nil
	}
	if sub := c.subs.Get(key); sub != nil {
		if sub.view.askAgain(sub, o) {
			return true, nil
		}
		c.addStale(-c.remove(sub)) // it was refused
	}
	if c.limit > 0 && c.subs.Len() >= c.limit {
		c.removeRefused()
		if c.subs.Len() >= c.limit {
			return true, shared.ErrTooManySubscriptions
		}
	}
	sub := &subscription{client: c, secret: c.secret, snapshot: o.Snapshot}
	if o.Snapshot {
		sub.wants, sub.sent = wantedBy(o.Version), o.Version
	}
	ent.index.join(sub, key.ID, s)
	c.subs.Put(sub)
	c.bridge.counts.subscriptions.Add(1)
	return true, nil
}

// Unsubscribe ends the client's subscription to key. Once Unsubscribe has returned, nothing of
// key is pushed to the client's sink.
func (c *Client) Unsubscribe(key shared.EntityKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sub := c.subs.Get(key); sub != nil {
		c.addStale(-c.remove(sub))
	}
}

// remove ends a subscription, and drops the update that waits in its slot. It returns how many
// stale subscriptions the client has fewer: one at most.
func (c *Client) remove(sub *subscription) (stale int) {
	from, member := sub.view.entity.index.leave(sub)
	if member {
		c.bridge.counts.subscriptions.Add(-1)
	} else {
		c.refused.Add(-1)
	}
	c.subs.Delete(sub.Key())
	c.sink.Drop(&sub.slot)
	return from.stale.count()
}

// removeRefused makes room by ending subscriptions that were refused. If the news of a refusal
// still waits in its slot, the subscription stays: the client takes itself to be subscribed
// until then.
func (c *Client) removeRefused() {
	if c.refused.Load() == 0 {
		return
	}
	for _, sub := range slices.Collect(c.subs.All()) {
		if !sub.view.has(sub) && !c.isUntold(sub) {
			c.addStale(-c.remove(sub))
		}
	}
}

// SetSecret changes who the client is. Every subscription moves to the view of the new secret.
// Once SetSecret has returned, nothing that was fetched with the old secret is pushed or waits
// in a slot.
//
// A refusal of the old secret that still waits in a slot is taken back: the client has not been
// told, so the subscription goes on. A subscription whose refusal has left the slot stays
// ended.
func (c *Client) SetSecret(text string) {
	secret := shared.NewSecret(text)
	scopes := make(map[*entity]scope)
	for {
		for _, ent := range c.entities() {
			if _, known := scopes[ent]; !known {
				scopes[ent] = ent.scopeOf(secret) // calls the application: no lock held
			}
		}
		if c.setSecret(secret, scopes) {
			return
		}
	}
}

// Keys returns the keys that the client is subscribed to as far as the client has been told, in
// no order. A refused key is one of them until the refusal has left its slot.
func (c *Client) Keys() []shared.EntityKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]shared.EntityKey, 0, c.subs.Len())
	for sub := range c.subs.All() {
		if sub.view.has(sub) || c.isUntold(sub) {
			keys = append(keys, sub.Key())
		}
	}
	return keys
}

// Len returns how many keys the client is subscribed to. It does not count refused keys.
func (c *Client) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subs.Len() - int(c.refused.Load())
}

// Has reports whether the client is subscribed to a key.
func (c *Client) Has(key shared.EntityKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	sub := c.subs.Get(key)
	return sub != nil && sub.view.has(sub)
}

// isUntold reports whether the refusal of a subscription still waits in its slot. Only the sink
// knows. isUntold therefore takes the refusal back, and hands it over again.
func (c *Client) isUntold(sub *subscription) bool {
	if !c.sink.Drop(&sub.slot) {
		return false
	}
	c.sink.Push(&sub.slot, newUpdate(sub.Key(), KindForbidden, sub.view.scope(), shared.FetchResult{}))
	return true
}

// entities returns the entity type of each subscription.
func (c *Client) entities() []*entity {
	c.mu.Lock()
	defer c.mu.Unlock()
	ents := make([]*entity, 0, c.subs.Len())
	for sub := range c.subs.All() {
		ents = append(ents, sub.view.entity)
	}
	return ents
}

// setSecret does nothing if there is a subscription whose entity type is not in scopes.
func (c *Client) setSecret(secret shared.Secret, scopes map[*entity]scope) (done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.secret == secret {
		return true
	}
	for sub := range c.subs.All() {
		if _, ok := scopes[sub.view.entity]; !ok {
			return false
		}
	}
	c.secret = secret
	c.generation++
	for sub := range c.subs.All() {
		ent := sub.view.entity
		if !ent.index.move(sub, scopes[ent], secret) {
			c.resume(sub, scopes[ent])
		}
	}
	return true
}

// resume gives a subscription that was refused to the client's old secret to the new one, if
// the refusal still waited in the slot. The refusal may have replaced rows in the slot, so the
// client is owed the key's present rows.
func (c *Client) resume(sub *subscription, s scope) {
	if !c.sink.Drop(&sub.slot) {
		return // the client has been told
	}
	c.refused.Add(-1)
	c.bridge.counts.subscriptions.Add(1)
	// No view has it as a member, so that no view's lock guards these.
	sub.secret, sub.sent, sub.wants = c.secret, Version{}, wantResult
	sub.view.entity.index.join(sub, sub.view.id, s)
}

// Close ends every subscription. Nothing is pushed once it has returned.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	for _, sub := range slices.Collect(c.subs.All()) {
		c.countStale(-c.remove(sub))
	}
	c.bridge.counts.clients.Add(-1)
}

// want is what a member is owed apart from notifications of the key.
type want uint8

const (
	wantNothing      want = iota
	wantDifference        // the next result, if it differs from what was last sent
	wantConfirmation      // the next result, or word that it does not differ
	wantResult            // the next result
	wantFirst             // the same, of a client that has nothing: an older one than others have as well
)

func wantedBy(has Version) want {
	if has == (Version{}) {
		return wantFirst
	}
	return wantConfirmation
}

// subscription is one client's place in one view.
type subscription struct {
	client *Client
	slot   Slot // where the newest update waits to be written; guarded by the client's sink

	// Guarded by the client's lock.
	view     *view // the last one, where the subscription has ended
	snapshot bool  // the client is owed the state itself, not only changes of it

	// Guarded by the view's lock.
	wants  want    // what it is owed of the next result
	asked  bool    // since it joined the view, whether its scope is still the view's
	place  int32   // in view.members, or noPlace
	fetch  uint64  // number of the fetch that its last update came from; older ones are not for this member
	sent   Version // of the last update handed to the client; zero before the first
	secret shared.Secret
}

// noPlace is the place of a refused subscription, which is no member.
const noPlace = -1

// Key implements compact.Keyed.
func (s *subscription) Key() shared.EntityKey { return s.view.key() }
