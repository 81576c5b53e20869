package bridge

// keyViews is every view of one key: nearly always one.
type keyViews struct {
	first *view
	more  *viewSet // nil for none
}

func (k keyViews) find(s scope) *view {
	switch {
	case k.first != nil && k.first.scope == s:
		return k.first
	case k.more != nil:
		return k.more.find(s)
	}
	return nil
}

func (k keyViews) each(f func(*view)) {
	if k.first != nil {
		f(k.first)
	}
	if k.more != nil {
		for _, v := range k.more.views {
			f(v)
		}
	}
}

func (k *keyViews) add(v *view) {
	if k.first == nil {
		k.first = v
		return
	}
	if k.more == nil {
		k.more = &viewSet{}
	}
	k.more.add(v)
}

// remove takes out v, which is one of them.
func (k *keyViews) remove(v *view) {
	if v == k.first {
		k.first = nil
		if k.more == nil {
			return
		}
		k.first = k.more.views[0]
		v = k.first
	}
	if k.more.remove(v); len(k.more.views) == 0 {
		k.more = nil
	}
}

// viewSet is views of one key, each of another scope.
type viewSet struct {
	views []*view
	// byScope is made once the views are too many to search one by one.
	byScope map[scope]*view
}

const searchOneByOne = 8

func (s *viewSet) find(of scope) *view {
	if s.byScope != nil {
		return s.byScope[of]
	}
	for _, v := range s.views {
		if v.scope == of {
			return v
		}
	}
	return nil
}

func (s *viewSet) add(v *view) {
	v.place = int32(len(s.views)) //nolint:gosec // a node has fewer clients
	s.views = append(s.views, v)
	if s.byScope != nil {
		s.byScope[v.scope] = v
		return
	}
	if len(s.views) > searchOneByOne {
		s.byScope = make(map[scope]*view, 2*len(s.views))
		for _, v := range s.views {
			s.byScope[v.scope] = v
		}
	}
}

func (s *viewSet) remove(v *view) {
	last := len(s.views) - 1
	moved := s.views[last]
	s.views[v.place], moved.place = moved, v.place
	s.views[last] = nil
	s.views = s.views[:last]
	delete(s.byScope, v.scope)
}
