package bridge

import "slices"

// keyViews is every view of one key: nearly always one. It is the first of them, which
// knows the others; the zero value is none.
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

// remove takes out v, which is one of them.
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

// viewSet is views of one key, each of another scope.
type viewSet struct {
	views []*view
	// places is where in views each scope's is, once they are too many to search one by
	// one.
	places map[scope]int
}

const searchOneByOne = 8

// place is less than zero where there is no view of the scope.
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

// remove takes out v, which is one of them.
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
