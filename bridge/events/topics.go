package events

import "github.com/entity-sync/entity-sync/shared"

// topics is the subscriptions of a Hub, by topic.
type topics struct {
	byName     map[shared.Topic]*subscribers
	everything subscribers
}

// subscribers is the subscriptions to one topic.
type subscribers struct{ list []*subscription }

func (t *topics) get(topic shared.Topic) *subscribers {
	if topic == shared.Everything {
		return &t.everything
	}
	return t.byName[topic]
}

func (t *topics) add(sub *subscription) {
	s := t.get(sub.topic)
	if s == nil {
		s = &subscribers{}
		if t.byName == nil {
			t.byName = make(map[shared.Topic]*subscribers)
		}
		t.byName[sub.topic] = s
	}
	sub.place = int32(len(s.list)) //nolint:gosec // a node has fewer clients
	s.list = append(s.list, sub)
}

// remove takes out a subscription. The last one takes its place.
func (t *topics) remove(sub *subscription) {
	s := t.get(sub.topic)
	last := len(s.list) - 1
	moved := s.list[last]
	s.list[sub.place], moved.place = moved, sub.place
	s.list[last] = nil
	if s.list = s.list[:last]; last == 0 && sub.topic != shared.Everything {
		delete(t.byName, sub.topic)
	}
}

func (t *topics) len() (n int) {
	n = len(t.byName)
	if len(t.everything.list) > 0 {
		n++
	}
	return n
}
