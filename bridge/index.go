package bridge

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/entity-sync/entity-sync/internal/compact"
	"github.com/entity-sync/entity-sync/shared"
)

// shardCount is a power of two well above the number of cores, so that two
// goroutines seldom want the same lock.
const shardCount = 64

// index finds the views of one entity type by their id. It is sharded by the id's hash. A
// shard's lock is held for map work and for marking views, never across a call out.
type index struct {
	entity *entity
	seed   maphash.Seed
	missed atomic.Uint64 // what was fetched up to this number may have missed a change
	shards [shardCount]shard
}

type shard struct {
	// moves is held while a member moves between two views. Only the goroutine that holds moves
	// has the locks of two views at once.
	moves sync.Mutex

	mu   sync.Mutex // guards keys; never held while a view's lock is waited for
	keys compact.Set[string, keyViews]
}

func (x *index) init(ent *entity) {
	x.entity, x.seed = ent, maphash.MakeSeed()
}

func (x *index) shard(id string) *shard {
	return &x.shards[maphash.String(x.seed, id)%shardCount]
}

// changed makes every view of a key fetch again. A key that no client here watches costs this
// one look-up. changed waits for no view.
func (x *index) changed(id string) {
	sh := x.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k := sh.keys.Get(id)
	if k.first == nil {
		return
	}
	x.entity.schedule.Hold()
	defer x.entity.schedule.Release()
	k.each(func(v *view) { v.post(posted(causeNotified)) })
}

// looksAgain marks every view whose last fetch began no later than the fetch of the given
// number. It returns how many views it marked.
func (x *index) looksAgain(number uint64) (n int) {
	for {
		before := x.missed.Load()
		if before >= number || x.missed.CompareAndSwap(before, number) {
			break
		}
	}
	return x.postAll(posted(causeMissed))
}

// postAll marks every view, and returns how many there are.
func (x *index) postAll(p posted) (n int) {
	x.entity.schedule.Hold()
	defer x.entity.schedule.Release()
	for i := range x.shards {
		n += x.shards[i].postAll(p)
	}
	return n
}

// postPart is postAll for one of shardCount parts of the views.
func (x *index) postPart(part int, p posted) (n int) {
	x.entity.schedule.Hold()
	defer x.entity.schedule.Release()
	return x.shards[part].postAll(p)
}

func (sh *shard) postAll(p posted) (n int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for k := range sh.keys.All() {
		k.each(func(v *view) {
			v.post(p)
			n++
		})
	}
	return n
}

// acquire returns the id's view of the given scope with the view's lock held. The lock keeps
// the view in the index.
func (x *index) acquire(id string, s scope) *view {
	for {
		v, added := x.findOrAdd(id, s)
		if added {
			return v
		}
		if v.lock(); v.state != removed {
			return v
		}
		v.unlock() // it was removed while it was waited for
	}
}

// findOrAdd returns the id's view of the given scope. A view that findOrAdd adds has its lock
// held.
func (x *index) findOrAdd(id string, s scope) (v *view, added bool) {
	sh := x.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k := sh.keys.Get(id)
	if v := k.find(s); v != nil {
		return v, false
	}
	counts := &x.entity.bridge.counts
	v = &view{id: id, secret: s.value, shared: s.shared, entity: x.entity, forAll: counts.sequence.Add(1)}
	v.lock()
	if !x.entity.feed.Live() {
		v.stale = staleBus
	}
	counts.views.Add(1)
	if k.first == nil {
		counts.keys.Add(1)
	}
	k.add(v)
	sh.keys.Put(k)
	return v, true
}

// join makes sub a member of the id's view of the given scope.
func (x *index) join(sub *subscription, id string, s scope) {
	v := x.acquire(id, s)
	defer v.unlock()
	v.joinLocked(sub, handover{forAll: math.MaxUint64})
}

// leave takes sub out of its view, if it is a member.
func (x *index) leave(sub *subscription) (from handover, member bool) {
	v := sub.view
	v.lock()
	defer v.unlock()
	if sub.place == noPlace {
		return handover{}, false
	}
	from = v.leaveLocked(sub)
	if v.unusedLocked() {
		x.removeLocked(v)
	}
	return from, true
}

// move takes sub from its view to the view of another scope. It does nothing if sub was
// refused, and is therefore no member.
//
// No notification falls between the two views, because marking a key takes the shard's lock.
// What the old view still owed the member, the new view owes the member now. An update of the
// old view that still waited to be written is dropped for an update of the new view.
func (x *index) move(sub *subscription, s scope, secret shared.Secret) (member bool) {
	from := sub.view
	sh := x.shard(from.id)
	sh.moves.Lock()
	defer sh.moves.Unlock()
	from.lock()
	defer from.unlock()
	if sub.place == noPlace {
		return false
	}
	to := from
	if s != from.scope() {
		to = x.acquire(from.id, s)
		defer to.unlock()
	}
	x.moveLocked(sh, sub, to, secret)
	if from.unusedLocked() {
		x.removeLocked(from)
	}
	return true
}

// moveLocked is called with the locks of both views held.
func (x *index) moveLocked(sh *shard, sub *subscription, to *view, secret shared.Secret) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sub.view.takePostedLocked() // before it was this shard's turn
	from := sub.view.leaveLocked(sub)
	sub.secret = secret
	if sub.snapshot {
		sub.wants = max(sub.wants, wantDifference)
	}
	if dropped := sub.client.sink.Drop(&sub.slot); dropped || from.owed {
		sub.sent, sub.wants = Version{}, wantResult
	}
	to.joinLocked(sub, from)
}

// removeUnused takes v out of the index if it has no member and nothing to do.
func (x *index) removeUnused(v *view) {
	v.lock()
	defer v.unlock()
	if v.unusedLocked() {
		x.removeLocked(v)
	}
}

// removeLocked takes out v, whose lock is held, if it is not out yet.
func (x *index) removeLocked(v *view) {
	before := v.state
	v.state = removed
	v.becameLocked(before, eventUnused)
	sh := x.shard(v.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
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

// keyViews is every view of one key, nearly always a single view. It holds the first view, and
// the first view knows the others. The zero value holds no view.
type keyViews struct{ first *view }

// Key implements compact.Keyed.
func (k keyViews) Key() string { return k.first.id }

func (k keyViews) find(s scope) *view {
	switch {
	case k.first == nil:
		return nil
	case k.first.scope() == s:
		return k.first
	case k.first.others != nil:
		return k.first.others.find(s)
	}
	return nil
}

func (k keyViews) each(f func(*view)) {
	if k.first == nil {
		return
	}
	f(k.first)
	if k.first.others != nil {
		for _, v := range k.first.others.views {
			f(v)
		}
	}
}

func (k *keyViews) add(v *view) {
	if k.first == nil {
		k.first = v
		return
	}
	if k.first.others == nil {
		k.first.others = &viewSet{}
	}
	k.first.others.add(v)
}

// remove takes v out of the key's views.
func (k *keyViews) remove(v *view) {
	others := k.first.others
	if v == k.first {
		if others == nil {
			k.first = nil
			return
		}
		k.first = others.views[0]
		v = k.first
	}
	if others.remove(v); len(others.views) == 0 {
		others = nil
	}
	k.first.others = others
}

// viewSet is the views of one key that has several: each view has another scope.
type viewSet struct {
	views []*view
	// places is where in views the view of each scope is. It is made when there are too many
	// views to search them one by one.
	places map[scope]int
}

const searchOneByOne = 8

// place returns the place of the scope's view, or a number below zero if there is no such view.
func (s *viewSet) place(of scope) int {
	if s.places == nil {
		return slices.IndexFunc(s.views, func(v *view) bool { return v.scope() == of })
	}
	if i, found := s.places[of]; found {
		return i
	}
	return -1
}

func (s *viewSet) find(of scope) *view {
	if i := s.place(of); i >= 0 {
		return s.views[i]
	}
	return nil
}

func (s *viewSet) add(v *view) {
	s.views = append(s.views, v)
	if s.places != nil {
		s.places[v.scope()] = len(s.views) - 1
		return
	}
	if len(s.views) > searchOneByOne {
		s.places = make(map[scope]int, 2*len(s.views))
		for i, v := range s.views {
			s.places[v.scope()] = i
		}
	}
}

// remove takes v out of the set.
func (s *viewSet) remove(v *view) {
	i, last := s.place(v.scope()), len(s.views)-1
	moved := s.views[last]
	s.views[i], s.views[last] = moved, nil
	s.views = s.views[:last]
	if s.places != nil {
		s.places[moved.scope()] = i
		delete(s.places, v.scope())
	}
}
