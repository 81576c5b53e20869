package bridge

import (
	"hash/maphash"
	"math"
	"sync"

	"github.com/entity-sync/entity-sync/internal/compact"
	"github.com/entity-sync/entity-sync/shared"
)

// shardCount is a power of two well above the number of cores, so that two
// goroutines seldom want the same lock.
const shardCount = 64

// index finds the views of one entity type by their id. It is sharded by the id's
// hash; a shard's lock is held for map work and for marking views, never across a
// call out.
type index struct {
	entity *entity
	seed   maphash.Seed
	shards [shardCount]shard
}

type shard struct {
	mu   sync.Mutex
	keys compact.Set[string, keyViews]
}

func (x *index) init(ent *entity) {
	x.entity, x.seed = ent, maphash.MakeSeed()
}

func (x *index) shard(id string) *shard {
	return &x.shards[maphash.String(x.seed, id)%shardCount]
}

// mark makes every view of a key fetch again for the given cause. A key nobody
// here watches costs this one look-up.
func (x *index) mark(id string, c cause) {
	sh := x.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k := sh.keys.Get(id)
	if k.first == nil {
		return
	}
	queue := &x.entity.queue
	queue.hold()
	defer queue.release()
	k.each(func(v *view) { v.mark(c) })
}

// markAll marks every view whose last fetch began no later than the fetch of the
// given number, and returns how many it marked.
func (x *index) markAll(c cause, number uint64) (n int) {
	queue := &x.entity.queue
	queue.hold()
	defer queue.release()
	for i := range x.shards {
		n += x.shards[i].markAll(c, number)
	}
	return n
}

// markPart is markAll for one of shardCount parts of the views.
func (x *index) markPart(part int, c cause, number uint64) (n int) {
	queue := &x.entity.queue
	queue.hold()
	defer queue.release()
	return x.shards[part].markAll(c, number)
}

func (sh *shard) markAll(c cause, number uint64) (n int) {
	sh.each(func(v *view) {
		if v.markOlder(c, number) {
			n++
		}
	})
	return n
}

// each calls f with every view.
func (sh *shard) each(f func(*view)) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for k := range sh.keys.All() {
		k.each(f)
	}
}

// join makes sub a member of the id's view of the given scope.
func (x *index) join(sub *subscription, id string, s scope) {
	sh := x.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	x.joinLocked(sh, sub, id, s, handover{forAll: math.MaxUint64})
}

// leave takes sub out of its view, if it is a member.
func (x *index) leave(sub *subscription) (from handover, member bool) {
	sh := x.shard(sub.view.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return x.leaveLocked(sh, sub)
}

// move takes sub from its view to that of another scope, unless it was refused. No notification falls
// between the two, because marking a key takes the same lock: what the old view
// still owed the member, the new one owes it now, and an update of the old view
// that was still waiting to be written is dropped for one of the new.
func (x *index) move(sub *subscription, s scope, secret shared.Secret) {
	id := sub.view.id
	sh := x.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	from, member := x.leaveLocked(sh, sub)
	if !member {
		return
	}
	sub.secret = secret
	if sub.snapshot {
		sub.wants = max(sub.wants, wantDifference)
	}
	if dropped := sub.client.sink.Drop(&sub.slot); dropped || from.owed {
		sub.sent, sub.wants = Version{}, wantResult
	}
	x.joinLocked(sh, sub, id, s, from)
}

func (x *index) joinLocked(sh *shard, sub *subscription, id string, s scope, from handover) {
	k := sh.keys.Get(id)
	counts := &x.entity.bridge.counts
	v := k.find(s)
	if v == nil {
		v = &view{id: id, secret: s.value, shared: s.shared, entity: x.entity, forAll: counts.sequence.Add(1)}
		if !x.entity.feed.Live() {
			v.stale = staleBus
		}
		counts.views.Add(1)
		if k.first == nil {
			counts.keys.Add(1)
		}
		k.add(v)
		sh.keys.Put(k)
	}
	v.join(sub, from)
}

func (x *index) leaveLocked(sh *shard, sub *subscription) (from handover, member bool) {
	v := sub.view
	d := v.leave(sub)
	if d.unused {
		x.removeLocked(sh, v)
	}
	return d.takes, d.member
}

// removeUnused takes v out of the index if it has no member and nothing to do.
func (x *index) removeUnused(v *view) {
	sh := x.shard(v.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	v.mu.Lock()
	unused := v.unused()
	v.mu.Unlock()
	if unused {
		x.removeLocked(sh, v)
	}
}

// removeLocked takes v out, if it is not yet.
func (x *index) removeLocked(sh *shard, v *view) {
	k := sh.keys.Get(v.id)
	if k.find(v.scope()) != v {
		return
	}
	counts := &x.entity.bridge.counts
	counts.views.Add(-1)
	if k.remove(v); k.first != nil {
		sh.keys.Put(k)
		return
	}
	sh.keys.Delete(v.id)
	counts.keys.Add(-1)
}
