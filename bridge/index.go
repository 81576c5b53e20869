package bridge

import (
	"hash/maphash"
	"math"
	"sync"

	"github.com/entity-sync/entity-sync/shared"
)

// shardCount is a power of two well above the number of cores, so that two
// goroutines seldom want the same lock.
const shardCount = 64

// index finds the views of a key. It is sharded by the key's hash; a shard's
// lock is held for map work and for marking views, never across a call out.
type index struct {
	seed   maphash.Seed
	shards [shardCount]shard
}

type shard struct {
	mu   sync.Mutex
	keys map[shared.EntityKey]*keyViews
}

func newIndex() *index {
	x := &index{seed: maphash.MakeSeed()}
	for i := range x.shards {
		x.shards[i].keys = make(map[shared.EntityKey]*keyViews)
	}
	return x
}

func (x *index) shard(key shared.EntityKey) *shard {
	return &x.shards[maphash.Comparable(x.seed, key)%shardCount]
}

// keyViews is every view of one key.
type keyViews struct {
	views []*view
	// byScope is made once the views are too many to search one by one.
	byScope map[scope]*view
}

const searchOneByOne = 8

// removed is the place of a view that the index no longer holds.
const removed = -1

func (k *keyViews) find(s scope) *view {
	if k.byScope != nil {
		return k.byScope[s]
	}
	for _, v := range k.views {
		if v.scope == s {
			return v
		}
	}
	return nil
}

func (k *keyViews) add(v *view) {
	v.place = len(k.views)
	k.views = append(k.views, v)
	if k.byScope != nil {
		k.byScope[v.scope] = v
		return
	}
	if len(k.views) > searchOneByOne {
		k.byScope = make(map[scope]*view, 2*len(k.views))
		for _, v := range k.views {
			k.byScope[v.scope] = v
		}
	}
}

func (k *keyViews) remove(v *view) {
	last := len(k.views) - 1
	moved := k.views[last]
	k.views[v.place], moved.place = moved, v.place
	k.views[last] = nil
	k.views = k.views[:last]
	v.place = removed
	delete(k.byScope, v.scope)
}

// mark makes every view of key fetch again for the given cause. A key nobody
// here watches costs this one look-up.
func (x *index) mark(key shared.EntityKey, c cause) {
	sh := x.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k := sh.keys[key]
	if k == nil {
		return
	}
	queue := &k.views[0].entity.queue
	queue.hold()
	defer queue.release()
	for _, v := range k.views {
		v.mark(c)
	}
}

// markAll marks every view of an entity type whose last fetch began no later
// than the fetch of the given number, and returns how many it marked.
func (x *index) markAll(ent *entity, c cause, number uint64) (n int) {
	ent.queue.hold()
	defer ent.queue.release()
	for i := range x.shards {
		n += x.shards[i].markAll(ent, c, number)
	}
	return n
}

// markPart is markAll for one of shardCount parts of the entity type's views.
func (x *index) markPart(part int, ent *entity, c cause, number uint64) (n int) {
	ent.queue.hold()
	defer ent.queue.release()
	return x.shards[part].markAll(ent, c, number)
}

func (sh *shard) markAll(ent *entity, c cause, number uint64) (n int) {
	sh.each(ent, func(v *view) {
		if v.markOlder(c, number) {
			n++
		}
	})
	return n
}

// each calls f with every view of an entity type.
func (sh *shard) each(ent *entity, f func(*view)) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for key, k := range sh.keys {
		if key.Entity != ent.name {
			continue
		}
		for _, v := range k.views {
			f(v)
		}
	}
}

// join makes sub a member of its key's view of the given scope.
func (x *index) join(ent *entity, sub *subscription, s scope) {
	sh := x.shard(sub.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.join(ent, sub, s, baggage{forAll: math.MaxUint64})
}

// leave takes sub out of its view, if it is in one.
func (x *index) leave(sub *subscription) {
	sh := x.shard(sub.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.leave(sub)
}

// move takes sub from its view to that of another scope. No notification falls
// between the two, because marking a key takes the same lock: what the old view
// still owed the member, the new one owes it now, and an update of the old view
// that was still waiting to be written is dropped for one of the new.
func (x *index) move(ent *entity, sub *subscription, s scope, secret shared.Secret) {
	sh := x.shard(sub.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	from := sh.leave(sub)
	sub.secret = secret
	if sub.snapshot {
		sub.wants = max(sub.wants, wantDifference)
	}
	if dropped := sub.client.sink.Drop(&sub.slot); dropped || from.owed {
		sub.sent, sub.wants = Version{}, wantResult
	}
	sh.join(ent, sub, s, from)
}

func (sh *shard) join(ent *entity, sub *subscription, s scope, from baggage) {
	k := sh.keys[sub.key]
	if k == nil {
		k = &keyViews{}
		sh.keys[sub.key] = k
		ent.bridge.counts.keys.Add(1)
	}
	v := k.find(s)
	if v == nil {
		v = &view{key: sub.key, scope: s, entity: ent, forAll: ent.bridge.counts.sequence.Add(1)}
		if !ent.live.Load() {
			v.doubt = doubtBus
		}
		k.add(v)
		ent.bridge.counts.views.Add(1)
	}
	v.join(sub, from)
}

func (sh *shard) leave(sub *subscription) (from baggage) {
	v := sub.view
	if v == nil {
		return baggage{forAll: math.MaxUint64}
	}
	from, unused := v.leave(sub)
	if unused {
		sh.remove(v)
	}
	return from
}

// removeUnused takes v out of the index if it has no member and nothing to do.
func (x *index) removeUnused(v *view) {
	sh := x.shard(v.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	v.mu.Lock()
	unused := v.unused()
	v.mu.Unlock()
	if unused && v.place != removed {
		sh.remove(v)
	}
}

func (sh *shard) remove(v *view) {
	k := sh.keys[v.key]
	k.remove(v)
	if len(k.views) == 0 {
		delete(sh.keys, v.key)
		v.entity.bridge.counts.keys.Add(-1)
	}
	v.entity.bridge.counts.views.Add(-1)
}
