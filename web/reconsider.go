package web

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/reconsider"
	"github.com/entity-sync/entity-sync/web/wire"
)

// newRights returns what has the application asked again about subscriptions to topics.
func (h *Handler) newRights() *reconsider.Rounds {
	every := max(h.config.ReauthorizeEvery, 0)
	if h.config.Authorize == nil {
		every = 0 // all that there is to hear is public
	}
	return reconsider.New(reconsider.Config{Every: every, Start: h.start, Leaving: h.leaving, Sessions: h.hearers})
}

// hearers returns the sessions that have had a subscription to a topic.
func (h *Handler) hearers() (list []reconsider.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.sessions.All() {
		if s.topics.Load() != nil {
			list = append(list, s)
		}
	}
	return list
}

// Number implements reconsider.Session.
func (s *session) Number() uint64 { return s.number }

// Reconsider implements reconsider.Session. A client that reads nothing keeps no other client
// waiting: a goroutine of its own tells the client what has ended.
func (s *session) Reconsider(about func(shared.Topic) bool) {
	topics := s.topics.Load()
	if topics == nil {
		return
	}
	refused := make(map[shared.Topic]*wire.Refusal)
	var down error // the application did not answer: it is not asked further
	for _, topic := range topics.Topics() {
		if !about(topic) || s.conn.IsLeaving() {
			continue
		}
		id, err := s.who(), down
		if err == nil {
			err = s.mayHear(id, topic)
		}
		if id.secret != s.who().secret {
			continue // changeSecret asks about the new secret, after the call that this round is of
		}
		if err == nil {
			continue
		}
		why := wire.RefusalOf(err)
		if why.Code == wire.CodeUnavailable {
			down = err
		}
		if s.endTopic(topic) {
			refused[topic] = why
		}
	}
	if len(refused) == 0 {
		return
	}
	s.handler.start(func() {
		s.answering.Lock() // the client would take the answer to an earlier request for the last word
		defer s.answering.Unlock()
		for topic, why := range refused {
			if topics.Has(topic) { // the client has subscribed again, and knows
				s.out.Gap(string(topic), 0)
			} else {
				s.sayUnsubscribed(topic, why)
			}
		}
	})
}

// askAgainSince has the application asked again about some of the client's topics if a call of
// Reconsider was heard after the given number of calls. What the application has said before
// such a call may not hold any more, and the call's round may have missed a subscription that
// began meanwhile.
func (s *session) askAgainSince(heard uint64, about func(shared.Topic) bool) {
	if s.handler.rights.Heard() != heard {
		s.Reconsider(about)
	}
}

// Reconsider has every node ask Config.Authorize again about each subscription that hears one
// of the topics or a topic below it; shared.Everything is all topics. A subscription that
// Authorize refuses ends, and the client is told so. Withdraw the right first, so that
// Authorize refuses. When Reconsider returns nil, every node has heard of it or will, as long
// as this node lives.
//
// It returns an error wrapping shared.ErrBadTopic, or the bus's error, after which this node
// asks all the same.
func (h *Handler) Reconsider(ctx context.Context, topics ...shared.Topic) error {
	switch {
	case h.config.Bridge == nil:
		return errors.New("web: a handler without a Bridge has no topics")
	case len(topics) == 0:
		return fmt.Errorf("web: reconsidering: %w: there is none", shared.ErrBadTopic)
	}
	texts := make([]string, len(topics))
	for i, topic := range topics {
		if err := topic.ValidateSubscription(); err != nil {
			return fmt.Errorf("web: reconsidering: %w", err)
		}
		texts[i] = reconsiderText(topic)
	}
	for _, topic := range topics { // on this node, even if the bus fails
		h.rights.Hear(topic)
	}
	if h.deaf != nil {
		return fmt.Errorf("web: other nodes cannot be reached: %w", h.deaf)
	}
	if err := h.config.Bridge.Publish(ctx, sessionsTopic, texts...); err != nil {
		return fmt.Errorf("web: reconsidering on other nodes: %w", err)
	}
	return nil
}

// reconsiderPrefix begins the texts of Reconsider on the sessions' topic. Nodes of a version
// that does not know them ignore them.
const reconsiderPrefix = "reconsider "

// maxReconsiderText is how long a text on the bus may be.
const maxReconsiderText = 255

// reconsiderText returns the text about a topic. A topic that does not fit is asked about with
// the topics above it.
func reconsiderText(topic shared.Topic) string {
	for len(reconsiderPrefix)+len(topic) > maxReconsiderText {
		i := strings.LastIndexByte(string(topic), '.')
		if i < 0 {
			return reconsiderPrefix + string(shared.Everything)
		}
		topic = topic[:i]
	}
	return reconsiderPrefix + string(topic)
}

func (h *Handler) hearReconsider(text string) {
	if topic, ok := strings.CutPrefix(text, reconsiderPrefix); ok {
		h.rights.Hear(shared.Topic(topic))
	}
}
