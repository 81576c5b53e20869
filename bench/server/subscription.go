package server

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/entity-sync/entity-sync/bench/workload"
)

// subscription is what the clients of a hub without a protocol of its own send to
// watch a key: the message of the classic wire.
type subscription struct {
	Action string
	Body   struct{ ID, Entity string }
}

func readSubscription(message []byte) (key int, err error) {
	var s subscription
	if err := json.Unmarshal(message, &s); err != nil {
		return 0, err
	}
	if s.Action != "subscribe" || s.Body.Entity != workload.Entity {
		return 0, fmt.Errorf("not a subscription: %s", message)
	}
	return workload.KeyOf(s.Body.ID)
}

// index knows who watches what.
type index[S comparable] struct {
	mu    sync.RWMutex
	keys  map[int][]S // who watches each
	watch map[S][]int // and the other way round
	n     int
}

func newIndex[S comparable]() *index[S] {
	return &index[S]{keys: make(map[int][]S), watch: make(map[S][]int)}
}

func (x *index[S]) add(who S, key int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.keys[key] = append(x.keys[key], who)
	x.watch[who] = append(x.watch[who], key)
	x.n++
}

func (x *index[S]) remove(who S) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, key := range x.watch[who] {
		all := x.keys[key]
		for i, one := range all {
			if one == who {
				last := len(all) - 1
				all[i] = all[last]
				var none S
				all[last] = none
				x.keys[key] = all[:last]
				break
			}
		}
		x.n--
	}
	delete(x.watch, who)
}

func (x *index[S]) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.n
}

// each calls f with those who watch a key, while none comes or goes.
func (x *index[S]) each(key int, f func([]S)) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f(x.keys[key])
}
