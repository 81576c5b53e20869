package nsqbus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/bridge/bus"
	"github.com/entity-sync/entity-sync/internal/echo"
)

// idle is a listener that does nothing: what is measured is the bus.
type idle struct{}

func (idle) Message([]byte) {}
func (idle) Live()          {}
func (idle) Lost(error)     {}

// messages is n messages as an nsqd sends them.
func messages(n int) []byte {
	body := []byte(`{"entity":"items","id":"nobody watches this","from":"7QWXW5XGBQYOYC7RKN7SRIYJNA","seq":100}`)
	one := binary.BigEndian.AppendUint32(nil, uint32(4+messageHead+len(body)))
	one = binary.BigEndian.AppendUint32(one, uint32(nsq.FrameTypeMessage))
	one = append(one, "time....at0123456789abcdef"...)
	return bytes.Repeat(append(one, body...), n)
}

var ear = echo.New("node", "items", nil)

// hearAll hears what was sent, until it ends.
func hearAll(tb testing.TB, sent []byte) {
	s := newSubscription(&Bus{}, "items")
	s.add("items", bus.Listener(idle{}))
	cn := &conn{r: bufio.NewReader(bytes.NewReader(sent)), w: bufio.NewWriter(io.Discard)}
	if err := s.hear(cn, ear); !errors.Is(err, io.EOF) {
		tb.Fatal(err)
	}
}

// BenchmarkHear is one message of many that arrive at once, without the network.
func BenchmarkHear(b *testing.B) {
	b.ReportAllocs()
	const burst = 1000
	sent := messages(burst)
	for b.Loop() {
		hearAll(b, sent)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst, "ns/message")
}

func TestHearingAllocatesNothingPerMessage(t *testing.T) {
	few, many := messages(10), messages(1010)
	fewer := testing.AllocsPerRun(10, func() { hearAll(t, few) })
	more := testing.AllocsPerRun(10, func() { hearAll(t, many) })
	if more != fewer {
		t.Errorf("%v allocations for 1,000 more messages, want none", more-fewer)
	}
}
