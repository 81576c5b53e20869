package feed

import "slices"

// batch holds the ids that wait to be published together.
type batch struct {
	ids   []string
	has   map[string]int // the place of each id, once there are several
	went  int            // how many of the ids were acknowledged: they are the first ones
	first message        // a cancelled call's message, to publish before the ids; Seq is 0 if there is none
	done  chan struct{}  // closed once err is the outcome
	err   error
}

// add adds each of the ids that is not in the batch yet.
func (b *batch) add(ids []string) {
	if len(b.ids) == 0 && len(ids) == 1 {
		b.ids = slices.Clip(ids) // the array behind ids is the caller's
		return
	}
	if b.has == nil && len(b.ids)+len(ids) > 1 {
		b.has = make(map[string]int, len(b.ids)+len(ids))
		for i, id := range b.ids {
			b.has[id] = i
		}
	}
	for _, id := range ids {
		if b.has != nil {
			if _, double := b.has[id]; double {
				continue
			}
			b.has[id] = len(b.ids)
		}
		b.ids = append(b.ids, id)
	}
}
