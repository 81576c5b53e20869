package web

import (
	"slices"
	"time"

	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// act does what one message asks for, on every wire. An error says what was wrong with the
// message; the session goes on.
func (s *session) act(message []byte) error {
	c := &s.handler.config
	r, err := s.encoder.wire.Request(message, wire.Options{MaxSecretBytes: c.MaxSecretBytes, Snapshot: c.Snapshot})
	if err != nil {
		return err
	}
	switch r.Action {
	case "":
		if s.appMessage(message) || r.Unclaimed == nil {
			return nil
		}
		return r.Unclaimed
	case wire.ActionSecret:
		err = s.changeSecret(r)
	case wire.ActionSubscribe, wire.ActionUnsubscribe:
		s.changeSubscriptions(r)
	case wire.ActionPublish:
		err = s.publish(r)
	}
	if err != nil && r.Ref != nil {
		return wire.RefusalOf(err).WithRef(r.Ref)
	}
	return err
}

func (s *session) changeSecret(r wire.Request) error {
	heard := s.handler.rights.Heard()
	id, err := s.verify(r.Secret)
	if err != nil {
		return err
	}
	s.reauthorize(id)
	s.out.Hold()
	defer s.out.Release()
	s.setIdentity(id)
	s.reply(wire.Reply{Action: wire.ActionAck, Ref: r.Ref})
	s.askAgainSince(heard, func(shared.Topic) bool { return true })
	return nil
}

// changeSubscriptions subscribes to or unsubscribes from keys and topics. It refuses each key
// and topic that cannot be by itself, and acknowledges the request at the end.
func (s *session) changeSubscriptions(r wire.Request) {
	heard := s.handler.rights.Heard()
	errs := make([]error, len(r.Targets))
	for i, t := range r.Targets {
		if r.Action == wire.ActionSubscribe {
			errs[i] = s.permitTarget(t) // may take its time: the application is asked
		} else if i > 0 && !s.waitForToken(&s.subscribes, "keys") { // the message's token covers the first
			return
		}
	}
	s.answering.Lock()
	defer s.answering.Unlock()
	s.out.Hold()
	defer s.out.Release()
	for i, t := range r.Targets {
		if errs[i] == nil {
			errs[i] = s.changeTarget(r.Action, t)
		}
		if errs[i] != nil {
			s.refuse(wire.RefusalOf(errs[i]).AboutTarget(i, t).WithRef(r.Ref))
		}
	}
	s.reply(wire.Reply{Action: wire.ActionAck, Ref: r.Ref})
	s.askAgainSince(heard, func(topic shared.Topic) bool {
		return slices.ContainsFunc(r.Targets, func(t wire.Target) bool { return t.IsTopic && t.Topic == topic })
	})
}

func (s *session) permitTarget(t wire.Target) error {
	if t.IsTopic {
		return s.permitTopic(t.Topic)
	}
	return s.permit(t.EntityKey)
}

func (s *session) changeTarget(action wire.Action, t wire.Target) error {
	switch {
	case !t.IsTopic:
		return s.changeSubscription(action, t.Key)
	case action == wire.ActionSubscribe:
		return s.subscribeToTopic(t)
	}
	s.endTopic(t.Topic)
	return nil
}

func (s *session) changeSubscription(action wire.Action, k wire.Key) error {
	had := s.client.Has(k.EntityKey)
	if action == wire.ActionUnsubscribe {
		s.client.Unsubscribe(k.EntityKey)
		if had {
			s.observe(shared.AccessRequest{Action: shared.ActionUnsubscribe, Key: k.EntityKey})
		}
		return nil
	}
	if s.topics.Load() != nil && !had && s.isFull() {
		return shared.ErrTooManySubscriptions
	}
	o := bridge.SubscribeOptions{Snapshot: k.Snapshot}
	// A version that is none of ours counts as one that the rows do not have.
	o.Version, _ = bridge.ParseVersion(k.Version)
	err := s.client.Subscribe(k.EntityKey, o)
	if err == nil {
		s.traceSubscribed(k.Entity, o.Snapshot)
		if !had {
			s.observe(shared.AccessRequest{Action: shared.ActionSubscribe, Key: k.EntityKey})
		}
	}
	return err
}

// reply sends the client a reply, if its wire can express it. It waits while too many messages
// are waiting already.
func (s *session) reply(r wire.Reply) {
	if frames := s.encoder.frames(r); frames != nil {
		s.out.Reply(frames)
	}
}

// sayExpiring tells the client when its secret expires.
func (s *session) sayExpiring(in time.Duration) {
	if frames := s.encoder.frames(wire.Reply{Action: wire.ActionExpiring, Seconds: max(1, int(in.Seconds()))}); frames != nil {
		s.out.Notice(frames)
	}
}
