package websocket

import (
	"encoding/binary"

	"github.com/gorilla/websocket"
)

// AppendText appends a text message as an unfragmented, unmasked frame, as a server sends
// it (RFC 6455, section 5.2).
//
// Frames are made here, and written to the connection without gorilla's writer,
// so that one frame serves every recipient and several go out in one system call.
func AppendText(b, message []byte) []byte { return appendFrame(b, websocket.TextMessage, message) }

// appendFrame appends a frame. opcode is one of gorilla's message types, which are the
// RFC's numbers.
func appendFrame(b []byte, opcode byte, payload []byte) []byte {
	return append(appendHead(b, opcode, len(payload)), payload...)
}

// MaxHead is how many bytes may come before the payload.
const MaxHead = 10

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

// TextAround makes b a frame of a text message in place. Its first MaxHead bytes are room for the
// head, the others the payload.
func TextAround(b []byte) []byte {
	var room [MaxHead]byte
	head := appendHead(room[:0], websocket.TextMessage, len(b)-MaxHead)
	frame := b[MaxHead-len(head):]
	copy(frame, head)
	return frame
}

var pingFrame = appendFrame(nil, websocket.PingMessage, nil)

// closeFrame returns a close frame. A code that may not be sent makes an empty one.
func closeFrame(code int, reason string) []byte {
	if code == websocket.CloseNoStatusReceived {
		return appendFrame(nil, websocket.CloseMessage, nil)
	}
	return appendFrame(nil, websocket.CloseMessage, websocket.FormatCloseMessage(code, reason))
}
