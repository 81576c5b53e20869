package load

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// A stream is read the same however it is cut into pieces.
func TestFrames(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 300)
	stream := append([]byte{0x80 | opText, 5}, "short"...)
	stream = append(stream, 0x80|opPing, 0)
	stream = append(append(stream, 0x80|opText, 126, 1, 44), long...)
	for cut := range stream {
		var got []string
		var kept []byte
		for _, piece := range [][]byte{stream[:cut], stream[cut:]} {
			b := slices.Concat(kept, piece)
			for {
				opcode, message, rest, ok, err := nextFrame(b)
				if err != nil {
					t.Fatal(err)
				}
				if kept = rest; !ok {
					break
				}
				if b = rest; opcode == opText {
					got = append(got, string(message))
				}
			}
		}
		if len(got) != 2 || got[0] != "short" || got[1] != string(long) || len(kept) != 0 {
			t.Fatalf("cut at %d: %q, and %d bytes are left", cut, got, len(kept))
		}
	}
	if _, _, _, _, err := nextFrame([]byte{0x80 | opText, 127}); !errors.Is(err, errWide) {
		t.Errorf("a frame that is too long: %v", err)
	}
}

func TestClientFrame(t *testing.T) {
	for _, n := range []int{0, 125, 126, 1000} {
		frame := clientFrame(opText, make([]byte, n))
		head := 6
		if n > 125 {
			head = 8
		}
		if len(frame) != head+n || frame[1]&0x80 == 0 {
			t.Errorf("a message of %d bytes: % x", n, frame[:8])
		}
	}
}
