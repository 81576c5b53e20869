package web

import (
	"github.com/entity-sync/entity-sync/bridge"
	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/internal/sendqueue"
	"github.com/entity-sync/entity-sync/web/internal/websocket"
	"github.com/entity-sync/entity-sync/web/wire"
)

// encoder makes complete WebSocket frames on one wire. It encodes an update once for all
// clients of a node, even if they came by different Handlers.
type encoder struct {
	wire        wire.Wire
	subprotocol string // that clients ask for; empty for clients that name none
	versioned   bool   // the wire has versions of rows
}

var (
	_ bridge.Encoder                    = (*encoder)(nil)
	_ events.Encoder                    = (*encoder)(nil)
	_ sendqueue.Encoder[*bridge.Update] = (*encoder)(nil)
)

// There is one encoder for each wire, because encoders are compared by their addresses.
var (
	onV2      = &encoder{wire: wire.V2{}, subprotocol: wire.SubprotocolV2, versioned: true}
	onClassic = &encoder{wire: wire.Classic{}}

	wires = []*encoder{onV2, onClassic} // the last is for clients that name no subprotocol
)

// encoderOf returns the encoder of a subprotocol that was agreed on.
func encoderOf(subprotocol string) *encoder {
	for _, e := range wires {
		if e.subprotocol == subprotocol {
			return e
		}
	}
	return onClassic
}

// subprotocols returns the subprotocols that a client may ask for, the preferred one first.
func subprotocols() (names []string) {
	for _, e := range wires {
		if e.subprotocol != "" {
			names = append(names, e.subprotocol)
		}
	}
	return names
}

// Encode implements bridge.Encoder.
func (e *encoder) Encode(u *bridge.Update) []byte {
	r := wire.Reply{Key: u.Key}
	if e.versioned && (u.Kind == bridge.KindRows || u.Kind == bridge.KindCurrent) {
		r.Version = u.Version.String()
	}
	switch u.Kind {
	case bridge.KindRows:
		r.Action, r.Rows = wire.ActionUpdate, u.Rows
	case bridge.KindCurrent:
		r.Action = wire.ActionCurrent
	case bridge.KindDeleted:
		r.Action = wire.ActionDelete
	case bridge.KindForbidden:
		r.Action, r.Code, r.Message = wire.ActionUnsubscribed, wire.CodeForbidden, "this secret may not see it"
	default:
		return nil
	}
	return e.frames(r)
}

// Update implements sendqueue.Encoder.
func (e *encoder) Update(u *bridge.Update) []byte { return u.Encoded(e) }

// Freshness implements sendqueue.Encoder.
func (e *encoder) Freshness(fresh bool) []byte {
	if fresh {
		return e.frames(wire.Reply{Action: wire.ActionFresh})
	}
	return e.frames(wire.Reply{Action: wire.ActionStale})
}

// EncodeEvent implements events.Encoder.
func (e *encoder) EncodeEvent(d *events.Delivery) []byte {
	return e.frames(wire.Reply{Action: wire.ActionEvent, Topic: d.Topic, Context: d.Context, Event: d.Event.JSON()})
}

// Gap implements sendqueue.Encoder.
func (e *encoder) Gap(topic string, missed uint64) []byte {
	return e.frames(wire.Reply{Action: wire.ActionGap, Topic: shared.Topic(topic), Missed: missed})
}

// frames returns a reply as complete WebSocket frames, or nil if the wire cannot express it.
func (e *encoder) frames(r wire.Reply) []byte {
	if appender, ok := e.wire.(wire.Appender); ok {
		b := appender.Append(headRoom[:len(headRoom):len(headRoom)], r)
		if len(b) == len(headRoom) {
			return nil
		}
		return websocket.TextAround(b)
	}
	messages := e.wire.Reply(r)
	size := 0
	for _, message := range messages {
		size += websocket.MaxHead + len(message)
	}
	if size == 0 {
		return nil
	}
	frames := make([]byte, 0, size)
	for _, message := range messages {
		frames = websocket.AppendText(frames, message)
	}
	return frames
}

// headRoom is the beginning of a message that becomes a frame in place. It has no spare
// capacity, so append copies it and never writes into it.
var headRoom [websocket.MaxHead]byte
