// Package compact has a set that takes little memory, for programs with very many sets.
package compact

import (
	"hash/maphash"
	"iter"
)

// Keyed is a pointer to something that knows its key, which does not change.
type Keyed[K comparable] interface {
	comparable
	Key() K
}

// Set is a set of pointers, found by their keys. A map would have to repeat the keys. With
// a thousand members it takes 16 bytes a member, and a map whose key is a struct of two
// strings takes 96. With a single member it takes 16 bytes, and such a map 400.
//
// The zero value is empty. It is not safe for concurrent use.
type Set[K comparable, V Keyed[K]] struct {
	slots  []V // open addressing with linear probing; a power of two, at least a quarter of them zero
	length int
}

const fewest = 2

var seed = maphash.MakeSeed()

// Len returns how many members there are.
func (s *Set[K, V]) Len() int { return s.length }

// Get returns the member with the key, or the zero V.
func (s *Set[K, V]) Get(key K) (v V) {
	if s.length == 0 {
		return v
	}
	return s.slots[s.find(key)]
}

// Put adds v, in place of the member with its key if there is one.
func (s *Set[K, V]) Put(v V) {
	if 4*(s.length+1) > 3*len(s.slots) {
		s.grow()
	}
	var none V
	i := s.find(v.Key())
	if s.slots[i] == none {
		s.length++
	}
	s.slots[i] = v
}

// Delete removes the member with the key, if there is one.
func (s *Set[K, V]) Delete(key K) {
	var none V
	if s.length == 0 {
		return
	}
	gap := s.find(key)
	if s.slots[gap] == none {
		return
	}
	s.length--
	// A later member that may stand in the gap moves there, and leaves a new gap.
	for i := s.after(gap); s.slots[i] != none; i = s.after(i) {
		if s.distance(s.place(s.slots[i].Key()), i) >= s.distance(gap, i) {
			s.slots[gap] = s.slots[i]
			gap = i
		}
	}
	s.slots[gap] = none
}

// All returns the members, in no order. The set must not change meanwhile.
func (s *Set[K, V]) All() iter.Seq[V] {
	var none V
	return func(yield func(V) bool) {
		for _, v := range s.slots {
			if v != none && !yield(v) {
				return
			}
		}
	}
}

// find returns the slot of the member with the key, or the slot where it would be put.
func (s *Set[K, V]) find(key K) int {
	var none V
	i := s.place(key)
	for s.slots[i] != none && s.slots[i].Key() != key {
		i = s.after(i)
	}
	return i
}

func (s *Set[K, V]) place(key K) int {
	return int(maphash.Comparable(seed, key) & uint64(len(s.slots)-1)) //nolint:gosec // less than their number
}

func (s *Set[K, V]) after(i int) int { return (i + 1) & (len(s.slots) - 1) }

// distance is how many slots to is behind from.
func (s *Set[K, V]) distance(from, to int) int { return (to - from) & (len(s.slots) - 1) }

func (s *Set[K, V]) grow() {
	old := s.slots
	s.slots = make([]V, max(fewest, 2*len(old)))
	var none V
	for _, v := range old {
		if v != none {
			s.slots[s.find(v.Key())] = v
		}
	}
}
