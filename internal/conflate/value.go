package conflate

import (
	"context"
	"iter"
	"sync"
)

// Value is the newest value of a series, for any number of readers, each at its own
// pace. A slow reader misses the values that were replaced meanwhile, and never sees an
// older value than it has seen. The zero Value has none yet. It must not be copied.
type Value[V any] struct {
	mu      sync.Mutex
	value   V
	number  uint64        // of values put so far
	changed chan struct{} // closed at the next change; nil until a reader asks for it
	ended   bool
}

// Put replaces the value. After End it does nothing.
func (v *Value[V]) Put(value V) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	v.value = value
	v.number++
	v.wakeLocked()
}

// End says that no other value follows.
func (v *Value[V]) End() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
	v.wakeLocked()
}

func (v *Value[V]) wakeLocked() {
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// Newest returns the value, and a channel that is closed once the value is replaced
// or End is called.
func (v *Value[V]) Newest() (value V, changed <-chan struct{}) {
	r := v.read()
	return r.value, r.changed
}

// reading is the state of a Value, as a reader finds it.
type reading[V any] struct {
	value   V
	number  uint64
	changed <-chan struct{}
	ended   bool
}

// closed is the channel changed of a Value that has ended.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (v *Value[V]) read() reading[V] {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := reading[V]{value: v.value, number: v.number, changed: closed, ended: v.ended}
	if !v.ended {
		if v.changed == nil {
			v.changed = make(chan struct{})
		}
		r.changed = v.changed
	}
	return r
}

// All yields the value, if there is one, and each newer one that the caller is
// quick enough to see, until End or the end of ctx. The last value before End is
// not missed.
func (v *Value[V]) All(ctx context.Context) iter.Seq[V] {
	return func(yield func(V) bool) {
		for seen := uint64(0); ctx.Err() == nil; {
			r := v.read()
			if r.number != seen && !yield(r.value) || r.ended {
				return
			}
			seen = r.number
			select {
			case <-r.changed:
			case <-ctx.Done():
			}
		}
	}
}
