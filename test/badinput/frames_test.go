package badinput

import (
	"strings"
	"testing"
)

// key is a good key's body of a message.
const key = `{"entity":"items","id":"1"}`

var invalidJSON = map[string]exchange{
	"nonsense":        says(canary, "error bad_json"),
	"nothing":         says("", "error bad_json"),
	"cut off":         says(`{"action":"subscribe","body":{"entity":"`+canary, "error bad_json"),
	"two values":      says(`{"action":"subscribe","body":`+key+`} {"`+canary+`":1}`, "error bad_json"),
	"trailing bytes":  says(`{"action":"subscribe","body":`+key+`}`+canary, "error bad_json"),
	"a mark of order": says("\ufeff"+`{"action":"subscribe","body":`+key+`}`, "error bad_json"),
}

func TestB01InvalidJSON(t *testing.T) {
	n := startNode(t, nodeConfig{})
	n.check(t, invalidJSON)
	n.endure(t, abuse{row: "B1", one: n.repeat(invalidJSON, 10)})
}

// limit is Config.Web.MaxMessageBytes.
const limit = 32 << 10

// pieces returns a message in so many pieces of the size given, the last of which is
// the end of it if it is to have one.
func pieces(n, size int, end bool) (all [][]byte) {
	for i := range n {
		first := byte(opContinuation)
		if i == 0 {
			first = opText
		}
		if end && i == n-1 {
			first |= final
		}
		all = append(all, frame(first, strings.Repeat(canary, size/len(canary)+1)[:size]))
	}
	return all
}

func TestB02TooLarge(t *testing.T) {
	n := startNode(t, nodeConfig{})
	tooLarge := map[string]exchange{
		"one frame":             ends(1009, frame(final|opText, strings.Repeat(" ", limit+1))),
		"pieces":                ends(1009, pieces(40, 1000, true)...),
		"pieces that never end": ends(1009, pieces(40, 1000, false)...),
		"a binary one":          ends(1009, frame(final|opBinary, strings.Repeat(" ", limit+1))),
		"small pieces":          ends(1009, pieces(330, 100, false)...),
	}
	n.check(t, tooLarge)
	n.check(t, map[string]exchange{
		"as large as may be": says(strings.Repeat(" ", limit-2)+"{}", "error bad_message"),
	})
	n.endure(t, abuse{row: "B2", one: n.each(tooLarge)})

	// Nearly all of a message, and no end of it.
	unfinished := func(i int) (int, []*hostile, error) {
		h, err := n.connect(wires[i%len(wires)])
		if err != nil {
			return 0, nil, err
		}
		open := []*hostile{h}
		const n = 32
		if err := h.say(pieces(n, limit/n, false)...); err != nil {
			return 0, open, err
		}
		// A pong in the midst of a message shows that the node has come so far.
		if err := h.say(frame(final|opPing, "here?")); err != nil {
			return 0, open, err
		}
		return n + 1, open, h.expect("pong here?")
	}
	n.endure(t, abuse{row: "B2, never finished", one: unfinished})
}

func TestB03HugeLength(t *testing.T) {
	n := startNode(t, nodeConfig{})
	huge := map[string]exchange{}
	for name, length := range map[string]uint64{"2^31": 1 << 31, "2^63-1": 1<<63 - 1, "2^63": 1 << 63, "2^64-1": 1<<64 - 1} {
		huge[name] = ends(1009, announce(final|opText, length), []byte("mask"))
		huge[name+" after a piece"] = ends(1009, frame(opText, "a"), announce(final|opContinuation, length), []byte("mask"))
	}
	n.check(t, huge)
	n.endure(t, abuse{
		row: "B3", one: n.each(huge),
		held: func(i int) (int, []*hostile, error) { // as large as may be, and nothing of it
			h, err := n.connect(wires[i%len(wires)])
			if err != nil {
				return 0, nil, err
			}
			return 1, []*hostile{h}, h.say(frame(final|opPing, ""), announce(final|opText, limit), []byte("mask"))
		},
	})
}

func TestB04DeepAndWide(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	field := `"` + canary + `":0,`
	wide := "{" + strings.Repeat(field, 2000) + `"":0}`
	exchanges := map[string]exchange{
		"deeper than is read":  says(deep(16_000), "error bad_json"),
		"deep":                 says(deep(5_000), "error bad_message"),
		"a deep body":          says(`{"action":"subscribe","ref":1,"body":`+deep(5_000)+`}`, "error 1 bad_message"),
		"deep where none asks": says(`{"action":"unsubscribe","ref":1,"body":`+key+`,"more":`+deep(5_000)+`}`, "ack 1"),
		"a deep secret":        says(`{"action":"secret","ref":1,"body":`+deep(5_000)+`}`, "error 1 bad_message"),
		"a deep ref":           says(`{"action":"unsubscribe","ref":`+deep(5_000)+`,"body":`+key+`}`, "error bad_message"),
		"many fields":          says(wide, "error bad_message"),
	}
	n := startNode(t, nodeConfig{})
	n.check(t, exchanges)
	n.check(t, map[string]exchange{
		"100,000 deep":   ends(1009, text(deep(100_000))),
		"100,000 fields": ends(1009, text("{"+strings.Repeat(field, 100_000)+`"":0}`)),
	})
	n.endure(t, abuse{row: "B4", one: n.repeat(exchanges, 1), connections: crowd / 4, hands: 2})
}

func TestB06Binary(t *testing.T) {
	binary := map[string]exchange{
		"a message":     ends(1003, frame(final|opBinary, `{"action":"secret","body":"`+canary+`"}`)),
		"nothing":       ends(1003, frame(final|opBinary, "")),
		"a large one":   ends(1003, frame(final|opBinary, strings.Repeat("x", limit))),
		"one in pieces": ends(1003, frame(opBinary, canary), frame(final|opContinuation, canary)),
	}
	n := startNode(t, nodeConfig{})
	n.check(t, binary)
	n.endure(t, abuse{row: "B6", one: n.each(binary)})
}

func TestB08BrokenFrames(t *testing.T) {
	broken := map[string]exchange{
		"RSV1":                            ends(1002, frame(final|rsv1|opText, canary)),
		"RSV2":                            ends(1002, frame(final|rsv2|opText, canary)),
		"RSV3":                            ends(1002, frame(final|rsv3|opText, canary)),
		"RSV1 on a ping":                  ends(1002, frame(final|rsv1|opPing, canary)),
		"not masked":                      ends(1002, []byte("\x81\x02{}")),
		"a ping that is not masked":       ends(1002, []byte("\x89\x00")),
		"a ping in pieces":                ends(1002, frame(opPing, canary)),
		"a pong in pieces":                ends(1002, frame(opPong, canary)),
		"a close in pieces":               ends(1002, frame(opClose, closing(1000, ""))),
		"a ping of 126 bytes":             ends(1002, frame(final|opPing, strings.Repeat("x", 126))),
		"a pong of 64 KiB":                ends(1002, frame(final|opPong, strings.Repeat("x", 64<<10))),
		"a close of 126 bytes":            ends(1002, frame(final|opClose, closing(1000, strings.Repeat("x", 124)))),
		"the end of nothing":              ends(1002, frame(final|opContinuation, canary)),
		"a piece of nothing":              ends(1002, frame(opContinuation, canary)),
		"a message in another":            ends(1002, frame(opText, canary), text(canary)),
		"opcode 3":                        ends(1002, frame(final|0x3, canary)),
		"opcode 7":                        ends(1002, frame(final|0x7, canary)),
		"opcode 11":                       ends(1002, frame(final|0xb, canary)),
		"opcode 15":                       ends(1002, frame(final|0xf, canary)),
		"close code 0":                    ends(1002, frame(final|opClose, closing(0, canary))),
		"close code 999":                  ends(1002, frame(final|opClose, closing(999, canary))),
		"close code 1004":                 ends(1002, frame(final|opClose, closing(1004, canary))),
		"close code 1005":                 ends(1002, frame(final|opClose, closing(1005, canary))),
		"close code 1006":                 ends(1002, frame(final|opClose, closing(1006, canary))),
		"close code 1015":                 ends(1002, frame(final|opClose, closing(1015, canary))),
		"close code 2999":                 ends(1002, frame(final|opClose, closing(2999, canary))),
		"close code 5000":                 ends(1002, frame(final|opClose, closing(5000, canary))),
		"close code 65535":                ends(1002, frame(final|opClose, closing(65535, canary))),
		"a close reason that is no UTF-8": ends(1002, frame(final|opClose, closing(1000, "\xff\xfe"+canary))),
		"no UTF-8":                        ends(1007, text("{\"\xff\xfe"+canary+"\":1}")),
		"half a surrogate":                ends(1007, text("\"\xed\xa0\x80\"")),
		"too long a form":                 ends(1007, text("\"\xc0\xaf\"")),
		"no UTF-8 across pieces":          ends(1007, frame(opText, "\"\xe2\x82"), frame(final|opContinuation, "\"")),
	}
	n := startNode(t, nodeConfig{})
	n.check(t, broken)
	n.check(t, map[string]exchange{
		"one byte of a close code": {[][]byte{frame(final|opClose, "x")}, []string{"close", "end"}},
		"a ping of 125 bytes":      {[][]byte{frame(final|opPing, strings.Repeat("x", 125))}, []string{"pong " + strings.Repeat("x", 125)}},
		"UTF-8 cut in two":         {[][]byte{frame(opText, "[\"\xe2\x82"), frame(final|opContinuation, "\xac\"]")}, []string{"error bad_message"}},
	})
	n.endure(t, abuse{row: "B8", one: n.each(broken), connections: crowd / 4})

	// One byte at a time is slow, and nothing else.
	for _, w := range wires {
		h, err := n.connect(w)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		for _, b := range h.probe() {
			if err := h.say([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.expect(h.answered()); err != nil {
			t.Errorf("%s, one byte at a time: %v", w, err)
		}
	}
}
