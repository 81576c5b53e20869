package web

import (
	"encoding/binary"

	"github.com/gorilla/websocket"
)

// appendFrame appends an unfragmented, unmasked frame as a server sends it
// (RFC 6455, section 5.2). opcode is one of gorilla's message types, which are
// the RFC's numbers.
//
// Frames are made here, and written to the connection without gorilla's writer,
// so that one frame serves every recipient and several go out in one system call.
func appendFrame(b []byte, opcode byte, payload []byte) []byte {
	return append(appendHead(b, opcode, len(payload)), payload...)
}

// maxHead is how many bytes may come before the payload.
const maxHead = 10

func appendHead(b []byte, opcode byte, length int) []byte {
	const final = 0x80
	b = append(b, final|opcode)
	switch n := uint64(length); { //nolint:gosec // no length is negative
	case n < 126:
		return append(b, byte(n))
	case n < 1<<16:
		b = append(b, 126)
		return binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, 127)
		return binary.BigEndian.AppendUint64(b, n)
	}
}

// frameAround makes b a frame in place. Its first maxHead bytes are room for the
// head, the others the payload.
func frameAround(b []byte, opcode byte) []byte {
	var room [maxHead]byte
	head := appendHead(room[:0], opcode, len(b)-maxHead)
	frame := b[maxHead-len(head):]
	copy(frame, head)
	return frame
}

// headRoom is what a message that becomes a frame in place is appended to: as it has no
// room for more, nothing is written into it.
var headRoom [maxHead]byte

// closeFrame returns a close frame. A code that may not be sent makes an empty one.
func closeFrame(code int, reason string) []byte {
	if code == websocket.CloseNoStatusReceived {
		return appendFrame(nil, websocket.CloseMessage, nil)
	}
	return appendFrame(nil, websocket.CloseMessage, websocket.FormatCloseMessage(code, reason))
}
