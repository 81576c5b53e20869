package badinput

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// wire is one of the two that clients speak.
type wire string

const (
	classic wire = "classic"
	v2      wire = "entity-sync.v2"
)

var wires = []wire{classic, v2}

// hostile is a client that says what it likes: whatever bytes there are.
type hostile struct {
	net.Conn
	r    *bufio.Reader
	wire wire
}

// dial connects to where the node takes clients, and says nothing.
func (n *node) dial() (*hostile, error) {
	conn, err := net.DialTimeout("tcp", n.addr, patience)
	if err != nil {
		return nil, err
	}
	return &hostile{Conn: conn, r: bufio.NewReaderSize(conn, 512)}, nil
}

// upgrade is a polite request to speak a wire.
func (n *node) upgrade(w wire, headers ...string) string {
	lines := []string{
		"GET " + path + " HTTP/1.1", "Host: " + n.addr, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
	}
	if w == v2 {
		lines = append(lines, "Sec-WebSocket-Protocol: "+string(v2))
	}
	return strings.Join(append(lines, headers...), "\r\n") + "\r\n\r\n"
}

// connect connects a client that speaks a wire.
func (n *node) connect(w wire) (*hostile, error) {
	h, err := n.dial()
	if err != nil {
		return nil, err
	}
	h.wire = w
	response, err := h.request(n.upgrade(w))
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New("the upgrade is answered with " + response.Status)
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// request sends a request and reads the answer, with its body. A server may answer
// before it has read all, and then hang up on who is still writing.
func (h *hostile) request(text string) (*http.Response, error) {
	_, sending := io.WriteString(h, text)
	if err := h.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(h.r, nil)
	if err != nil {
		return nil, errors.Join(err, sending)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(strings.NewReader(string(body)))
	return response, err
}

// The first byte of a frame (RFC 6455, section 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	final = 0x80
	rsv1  = 0x40
	rsv2  = 0x20
	rsv3  = 0x10
)

// frame returns a masked frame that begins with the byte given.
func frame(first byte, payload string) []byte {
	mask := [4]byte{0x5e, 0xed, 0x5e, 0xed}
	b := append(announce(first, uint64(len(payload))), mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// announce returns the head of a masked frame of the length given, up to its mask.
func announce(first byte, length uint64) []byte {
	const masked = 0x80
	switch {
	case length < 126:
		return []byte{first, masked | byte(length)}
	case length < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{first, masked | 126}, uint16(length))
	default:
		return binary.BigEndian.AppendUint64([]byte{first, masked | 127}, length)
	}
}

func text(payload string) []byte { return frame(final|opText, payload) }

// closing returns the payload of a close frame.
func closing(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// say sends frames in one go.
func (h *hostile) say(frames ...[]byte) error {
	var all []byte
	for _, f := range frames {
		all = append(all, f...)
	}
	if err := h.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := h.Write(all)
	return err
}

// heard is a frame from the node.
type heard struct {
	op      byte
	payload string
}

// hear reads one frame. Where much is going on a node comes to ask whether its client
// is there: that is answered and is no part of any exchange.
func (h *hostile) hear() (f heard, err error) {
	if err := h.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return f, err
	}
	for {
		if f, err = h.readFrame(); err != nil || f.op != opPing {
			return f, err
		}
		if err := h.say(frame(final|opPong, f.payload)); err != nil {
			return f, err
		}
	}
}

func (h *hostile) readFrame() (f heard, err error) {
	var head [2]byte
	if _, err := io.ReadFull(h.r, head[:]); err != nil {
		return f, err
	}
	if head[0]&0xf0 != final || head[1]&0x80 != 0 {
		return f, fmt.Errorf("the node sent a frame that begins with % x", head)
	}
	f.op = head[0] & 0xf
	length := uint64(head[1])
	var more [8]byte
	switch length {
	case 126:
		_, err = io.ReadFull(h.r, more[6:])
	case 127:
		_, err = io.ReadFull(h.r, more[:])
	}
	if length >= 126 {
		length = binary.BigEndian.Uint64(more[:])
	}
	if err != nil || length > 1<<20 {
		return f, fmt.Errorf("the node sent a frame of %d bytes: %w", length, err)
	}
	payload := make([]byte, length)
	_, err = io.ReadFull(h.r, payload)
	f.payload = string(payload)
	return f, err
}

// String is the frame in a few words: "close 1002", "error bad_json", "ack 1".
func (f heard) String() string {
	switch f.op {
	case opClose:
		if len(f.payload) < 2 {
			return "close"
		}
		return fmt.Sprint("close ", binary.BigEndian.Uint16([]byte(f.payload)))
	case opPong:
		return "pong " + f.payload
	}
	var m struct {
		Action string
		Ref    json.RawMessage
		Body   struct{ Code, ID string }
		ID     string // of a row of the classic wire
	}
	if err := json.Unmarshal([]byte(f.payload), &m); err != nil {
		return f.payload
	}
	words := []string{m.Action, string(m.Ref), m.Body.Code}
	switch m.Action {
	case "":
		words = []string{"row", m.ID}
	case "update":
		words = append(words, m.Body.ID)
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}

// expect reads what the node says and returns an error unless it is what is wanted.
// "end" is the end of the connection.
func (h *hostile) expect(want ...string) error {
	for _, want := range want {
		f, err := h.hear()
		got := f.String()
		switch {
		case errors.Is(err, io.EOF):
			got = "end"
		case err != nil:
			return fmt.Errorf("waiting for %q: %w", want, err)
		}
		if got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		if strings.Contains(f.payload, canary) && !strings.HasPrefix(got, "row") { // which names whom it is for
			return fmt.Errorf("the node says again what it was told: %.200s", f.payload)
		}
	}
	return nil
}

// await reads until the node says what is wanted, and returns what it said before.
func (h *hostile) await(want string) (before []string, err error) {
	for {
		f, err := h.hear()
		if err != nil {
			return before, fmt.Errorf("waiting for %q after %d others: %w", want, len(before), err)
		}
		if f.String() == want {
			return before, nil
		}
		before = append(before, f.String())
	}
}

// probe asks for something harmless. Its answer shows that the session goes on, and
// that all before it was taken.
func (h *hostile) probe() []byte {
	if h.wire == v2 {
		return text(`{"action":"unsubscribe","ref":"probe","body":{"entity":"items","id":"probe"}}`)
	}
	return text(`{"action":"subscribe","body":{"entity":"items","id":"probe","snapshot":true}}`)
}

// answered is what answers the probe.
func (h *hostile) answered() string {
	if h.wire == v2 {
		return `ack "probe"`
	}
	return "row probe"
}
