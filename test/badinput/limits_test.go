package badinput

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	maxSubscriptions = 1000 // Config.Web.MaxSubscriptions
	messageRate      = 100  // Config.Web.MessageRate
	subscribeRate    = 200  // Config.Web.SubscribeRate
	burst            = 10   // seconds that a client may be ahead of its rate
)

// keys is a subscription to so many keys from the first on.
func keys(first, n int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `{"action":"subscribe","ref":"keys","body":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"entity":"items","id":"%d","snapshot":false}`, first+i)
	}
	b.WriteString("]}")
	return text(b.String())
}

// One socket asks for a million keys. It gets its thousand, each of the others is
// refused, and they are looked at no faster than the rate allows.
func TestB14AMillionSubscriptionsOnOneSocket(t *testing.T) {
	const million, each = 1_000_000, 100
	n := startNode(t, nodeConfig{})
	var refused, written atomic.Int64
	var said sync.WaitGroup
	ask := func(int) (int, []*hostile, error) {
		h, err := n.connect(v2)
		if err != nil {
			return 0, nil, err
		}
		said.Go(func() { // until it is hung up on: the node stops reading long before the end
			for first := 0; first < million; first += each {
				if h.SetWriteDeadline(time.Now().Add(patience)); write(h, keys(first, each), &written) != nil {
					return
				}
			}
		})
		begin, told := time.Now(), 0
		frames := 0
		for told == 0 || time.Since(begin) < 2*time.Second {
			f, err := h.hear()
			if err != nil {
				return 0, []*hostile{h}, err
			}
			switch f.String() {
			case `ack "keys"`:
				frames++
			case `error "keys" too_many_subscriptions`:
				refused.Add(1)
			case "error rate_limited":
				told++
			default:
				return 0, []*hostile{h}, fmt.Errorf("it is answered with %s", f.payload)
			}
		}
		if told != 1 {
			err = fmt.Errorf("it is told %d times that it is too fast, want once", told)
		}
		return frames * each, []*hostile{h}, err
	}
	m := n.endure(t, abuse{row: "B14, a million keys", one: ask, connections: 1, maxMemory: 2 << 20}) // of one alone nothing can be measured
	said.Wait()
	if got := m.during.Subscriptions - m.was.Subscriptions; got != maxSubscriptions {
		t.Errorf("it has %d subscriptions, want %d", got, maxSubscriptions)
	}
	looked := refused.Load() + maxSubscriptions
	if most := subscribeRate * int64(burst+m.took.Seconds()+1); looked > most || refused.Load() == 0 {
		t.Errorf("%d keys were looked at in %v, and %d refused; want %d at most", looked, m.took, refused.Load(), most)
	}
	t.Logf("the node took %d keys, and the sockets %d KiB of %d KiB", looked, written.Load()>>10, million/each*len(keys(0, each))>>10)
}

func write(h *hostile, b []byte, written *atomic.Int64) error {
	k, err := h.Write(b)
	written.Add(int64(k))
	return err
}

// What a subscription may cost, in bytes, where nobody else watches the key with the
// same secret, and where others do.
const (
	maxOwnSubscription    = 400
	maxSharedSubscription = 200
)

// Many sockets have all that they may. In the test they are fifty.
func TestB14EverySocketWithAllItMay(t *testing.T) {
	n := startNode(t, nodeConfig{PongWait: 10 * patience}) // the first of them reads nothing until the last has all
	const half = maxSubscriptions / 2
	full := func(same bool) func(int) (int, []*hostile, error) {
		return func(i int) (int, []*hostile, error) {
			h, err := n.connect(v2)
			if err != nil {
				return 0, nil, err
			}
			first := i * maxSubscriptions
			if same {
				first = 0
			}
			if err = h.say(keys(first, half), keys(first+half, half), keys(first+maxSubscriptions, 1)); err == nil {
				err = h.expect(`ack "keys"`, `ack "keys"`, `error "keys" too_many_subscriptions`, `ack "keys"`)
			}
			return maxSubscriptions + 1, []*hostile{h}, err
		}
	}
	const sockets = 50
	for name, v := range map[string]struct {
		same bool
		max  int
	}{
		"B14, keys of its own": {false, maxOwnSubscription},
		"B14, the same keys":   {true, maxSharedSubscription},
	} {
		m := n.endure(t, abuse{row: name, one: full(v.same), connections: sockets, hands: 2, maxMemory: maxSubscriptions * v.max})
		if got := m.during.Subscriptions - m.was.Subscriptions; got < sockets*maxSubscriptions {
			t.Errorf("%s: %d subscriptions, want %d", name, got, sockets*maxSubscriptions)
		}
		t.Logf("%s: %d bytes a subscription", name, m.memory/maxSubscriptions)
	}
}

func TestB20NobodyAndTheFloodOfSecrets(t *testing.T) {
	exchanges := map[string]exchange{
		"a subscription":     says(`{"action":"subscribe","ref":1,"body":`+key+`}`, "error 1 unauthenticated", "ack 1"),
		"several":            says(`{"action":"subscribe","ref":1,"body":[`+key+`,`+key+`]}`, "error 1 unauthenticated", "error 1 unauthenticated", "ack 1"),
		"a wrong secret":     says(`{"action":"secret","ref":1,"body":"`+canary+`"}`, "error 1 unauthenticated"),
		"the empty secret":   says(`{"action":"secret","ref":1,"body":""}`, "error 1 unauthenticated"),
		"another one's case": says(`{"action":"secret","ref":1,"body":"GOOD"}`, "error 1 unauthenticated"),
	}
	const times = 3
	timeout := timeFor(t, exchanges, times)
	n := startNode(t, nodeConfig{VerifySecret: true, SecretTimeout: timeout})
	flood := n.floodOf(exchanges, times)
	thenWait := func(i int) (int, []*hostile, error) {
		if i%4 >= len(wires) { // says nothing
			h, err := n.connect(wires[i%len(wires)])
			if err != nil {
				return 0, nil, err
			}
			begin := time.Now()
			if err = h.expect("close 4501", "end"); err == nil && time.Since(begin) < timeout/2 {
				err = fmt.Errorf("it is sent away after %v", time.Since(begin))
			}
			return 1, []*hostile{h}, err
		}
		frames, open, err := flood(i)
		if err == nil {
			err = open[0].expect("close 4501", "end")
		}
		return frames, open, err
	}
	m := n.endure(t, abuse{row: "B20", one: thenWait, held: flood, hands: crowd})
	if m.during.Foreign != 0 || m.during.Subscriptions != m.was.Subscriptions {
		t.Errorf("%d fetches and %d subscriptions for nobody", m.during.Foreign, m.during.Subscriptions-m.was.Subscriptions)
	}
	// Somebody with the right secret stays.
	h, err := n.connect(v2)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.say(text(`{"action":"secret","ref":1,"body":"` + goodSecret + `"}`)); err != nil {
		t.Fatal(err)
	}
	if err := h.expect("ack 1"); err != nil {
		t.Error(err)
	}
}

// timeFor returns how long clients may be nobody for all that a crowd of them says to be
// answered on this machine: three seconds, or several times as long as it takes.
func timeFor(t *testing.T, exchanges map[string]exchange, times int) time.Duration {
	t.Helper()
	n := startNode(t, nodeConfig{VerifySecret: true, SecretTimeout: patience})
	begin := time.Now()
	_, open := crowdDoes(t, abuse{connections: crowd, hands: crowd}, n.floodOf(exchanges, times))
	took := time.Since(begin)
	hangUp(open)
	return min(max(3*time.Second, 4*took), patience/3)
}

// floodOf is repeat for clients who may not probe.
func (n *node) floodOf(exchanges map[string]exchange, times int) func(i int) (int, []*hostile, error) {
	return func(i int) (frames int, open []*hostile, err error) {
		h, err := n.connect(wires[i%len(wires)])
		if err != nil {
			return 0, nil, err
		}
		open = []*hostile{h}
		for range times {
			for name, e := range exchanges {
				f, err := h.do(e)
				if err != nil {
					return 0, open, fmt.Errorf("%s, %s: %w", h.wire, name, err)
				}
				frames += f
			}
		}
		if err := h.say(frame(final|opPing, "here?")); err != nil {
			return 0, open, err
		}
		return frames + 1, open, h.expect("pong here?")
	}
}

func TestB20NobodyAtTheUpgrade(t *testing.T) {
	n := startNode(t, nodeConfig{Authenticate: true})
	knock := func(i int) (int, []*hostile, error) {
		h, err := n.dial()
		if err != nil {
			return 0, nil, err
		}
		const times = 5
		for range times {
			err := h.answer(n.upgrade(wires[i%len(wires)], "Authorization: Bearer "+canary), 401)
			if err != nil {
				return 0, []*hostile{h}, err
			}
		}
		return times, []*hostile{h}, nil
	}
	n.endure(t, abuse{row: "B20, at the upgrade", one: knock})
}

func TestB23Floods(t *testing.T) {
	n := startNode(t, nodeConfig{})
	n.check(t, map[string]exchange{
		"pings":  {[][]byte{frame(final|opPing, "1")}, []string{"pong 1"}},
		"pongs":  {[][]byte{frame(final|opPong, canary), frame(final|opPong, "")}, nil},
		"closes": {floodOf(frame(final|opClose, closing(1000, canary)), 100), []string{"close 1000", "end"}},
	})
	const most = burst * messageRate
	kinds := [][]byte{frame(final|opPing, strings.Repeat("x", 125)), frame(final|opPong, strings.Repeat("x", 125))}
	// As many as are taken at once; and then more, until that is too fast.
	flood := func(more bool) func(i int) (int, []*hostile, error) {
		return func(i int) (int, []*hostile, error) {
			h, err := n.connect(wires[i%len(wires)])
			if err != nil {
				return 0, nil, err
			}
			open := []*hostile{h}
			kind := kinds[i/len(wires)%len(kinds)]
			if err := h.say(append(floodOf(kind, most-2), h.probe())...); err != nil {
				return 0, open, err
			}
			if _, err = h.await(h.answered()); err == nil && more && h.wire == v2 { // behind some pongs
				err = h.pester(kind, "error rate_limited")
			}
			return most, open, err
		}
	}
	n.endure(t, abuse{row: "B23", one: flood(false), held: flood(true), connections: crowd / 4})

	closes := func(i int) (int, []*hostile, error) {
		h, err := n.connect(wires[i%len(wires)])
		if err != nil {
			return 0, nil, err
		}
		const times = 100
		err = h.say(floodOf(frame(final|opClose, closing(1000, canary)), times)...)
		if err == nil {
			err = h.expect("close 1000", "end")
		}
		return times, []*hostile{h}, err
	}
	n.endure(t, abuse{row: "B23, closes", one: closes, connections: crowd / 4})
}

// pester says a frame again and again until the node answers as is wanted.
func (h *hostile) pester(frame []byte, want string) error {
	var saying sync.WaitGroup
	defer saying.Wait()
	enough := make(chan struct{})
	defer close(enough)
	saying.Go(func() {
		for h.say(floodOf(frame, 20)...) == nil {
			select {
			case <-enough:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	_, err := h.await(want)
	return err
}

// floodOf repeats a frame.
func floodOf(frame []byte, times int) [][]byte {
	all := make([][]byte, times)
	for i := range all {
		all[i] = frame
	}
	return all
}

// Ten times what is allowed, all of it valid: it is taken more slowly, in order, and
// nothing of it is lost.
func TestB25TenTimesTheRate(t *testing.T) {
	n := startNode(t, nodeConfig{})
	fast := func(i int) (int, []*hostile, error) {
		h, err := n.connect(wires[i%len(wires)])
		if err != nil {
			return 0, nil, err
		}
		begin := time.Now()
		slower, enough := make(chan struct{}), make(chan struct{})
		waiting := make(chan struct{}, tooMany) // for an answer: no more of them, or a slow node would take minutes
		sent := 0
		var saying sync.WaitGroup
		saying.Go(func() { sent = h.hurry(begin, slower, enough, waiting) })
		acks, err := h.countAcks(slower, waiting)
		close(enough)
		if err != nil {
			h.Close()
		}
		saying.Wait()
		switch {
		case err != nil:
		case h.wire == v2 && acks != sent:
			err = fmt.Errorf("%d of %d messages are answered", acks, sent)
		case sent > messageRate*(burst+1+int(time.Since(begin).Seconds())):
			err = fmt.Errorf("%d messages were taken in %v", sent, time.Since(begin))
		}
		return sent, []*hostile{h}, err
	}
	n.endure(t, abuse{row: "B25", one: fast, connections: 20, hands: n.canBeHurried(t)})
}

// tooMany is how many messages are more than a client may send at once.
const tooMany = messageRate * (burst + 3)

// canBeHurried returns how many clients can send faster than they may at the same time,
// up to twenty: on a slow machine the node takes what many of them send no faster than the
// rate allows.
func (n *node) canBeHurried(t *testing.T) int {
	t.Helper()
	h, err := n.connect(v2)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const all = messageRate * burst
	begin := time.Now()
	if err := h.say(append(floodOf(text(`{"action":"unsubscribe","body":`+key+`}`), all-1), h.probe())...); err != nil {
		t.Fatal(err)
	}
	if _, err := h.await(h.answered()); err != nil {
		t.Fatal(err)
	}
	const reserve = 4
	return min(20, max(2, int(all/time.Since(begin).Seconds()/messageRate/reserve)))
}

// hurry sends more messages than may be sent, ten times as fast; with v2 until the node
// says so. It returns how many.
func (h *hostile) hurry(begin time.Time, slower, enough <-chan struct{}, waiting chan<- struct{}) (sent int) {
	for ; sent < tooMany || h.wire == v2 && !isClosed(slower); sent++ {
		if h.wire == v2 {
			select {
			case waiting <- struct{}{}:
			case <-enough:
				return sent
			}
		}
		if h.say(text(fmt.Sprintf(`{"action":"unsubscribe","ref":%d,"body":%s}`, sent, key))) != nil {
			return sent
		}
		time.Sleep(time.Until(begin.Add(time.Duration(sent) * time.Second / (10 * messageRate))))
	}
	h.say(h.probe())
	return sent
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// countAcks counts the answers to messages that are numbered, which must come in
// order, until that of the probe. It closes slower when the node says that they come
// too fast, which it must do once at most.
func (h *hostile) countAcks(slower chan struct{}, waiting <-chan struct{}) (acks int, err error) {
	for {
		f, err := h.hear()
		switch got := f.String(); {
		case err != nil:
			return acks, err
		case got == h.answered():
			return acks, nil
		case h.wire == v2 && got == fmt.Sprint("ack ", acks):
			acks++
			<-waiting
		case h.wire == v2 && got == "error rate_limited" && !isClosed(slower):
			close(slower)
		default:
			return acks, fmt.Errorf("got %q, want ack %d", got, acks)
		}
	}
}
