package badinput

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// answer sends a request and returns an error unless it is answered with a status,
// and with nothing of what was asked or of the node's insides.
func (h *hostile) answer(request string, status int) error {
	response, err := h.request(request)
	if err != nil {
		return err
	}
	if response.StatusCode != status {
		return fmt.Errorf("it is answered with %s, want %d", response.Status, status)
	}
	var all strings.Builder
	response.Write(&all)
	for _, bad := range []string{canary, "goroutine", ".go:", "internal"} {
		if strings.Contains(all.String(), bad) {
			return fmt.Errorf("the answer has %q in it: %s", bad, all.String())
		}
	}
	return nil
}

// knocks makes an abuse of requests and the statuses that they are answered with,
// each on a connection of its own. The last connection is left open.
func (n *node) knocks(requests map[string]knock) func(i int) (int, []*hostile, error) {
	return func(i int) (frames int, open []*hostile, err error) {
		for name, k := range requests {
			hangUp(open)
			h, err := n.dial()
			if err != nil {
				return 0, nil, err
			}
			open = []*hostile{h}
			if err := h.answer(k.request, k.status); err != nil {
				return 0, open, fmt.Errorf("%s: %w", name, err)
			}
			frames++
		}
		return frames, open, nil
	}
}

// knock is a request, and the status that answers it.
type knock struct {
	request string
	status  int
}

func TestB16NamesThatAreNoTopics(t *testing.T) {
	n := startNode(t, nodeConfig{})
	// The node has two of its own, of which it does not wait for one to be ready.
	var topics []string
	n.until(t, "nsqd has them", func(figures) bool {
		topics = n.topics(t)
		return len(topics) >= 2
	})
	register := func(int) (int, []*hostile, error) {
		names := []string{"", "a b", "x\n", "x\x00", "#ephemeral", "x#ephemeral", strings.Repeat("x", 65), "é", "a/b", "SUB items", "x\nPUB items"}
		for _, name := range names {
			if why, err := ask[string](n, "register", name); err != nil || len(why) > 300 {
				return 0, nil, fmt.Errorf("registering %q: %.400q, %w", name, why, err)
			}
		}
		return len(names), nil, nil
	}
	m := n.endure(t, abuse{row: "B16", one: register})
	if m.lines != 0 {
		t.Errorf("%d lines in the log for what the application is told", m.lines)
	}
	if got := n.topics(t); len(got) != len(topics) {
		t.Errorf("nsqd has the topics %q, before it had %q", got, topics)
	}
}

func TestB17ForeignPages(t *testing.T) {
	n := startNode(t, nodeConfig{AllowedOrigins: []string{"https://example.com"}})
	upgrades := map[string]knock{}
	for _, origin := range []string{
		"null", "https://evil.test", "http://example.com", "https://example.com:8443", "https://evil-example.com",
		"https://example.com.evil.test", "https://example.com@evil.test", "https://sub.example.com", "https://examp1e.com",
		"https://ехample.com", "https://example.com.", "https://example.com/", "https://examp\u212ae.com", "file://", "::", "https://",
		"http://" + n.addr + ".evil.test", "http://evil.test/" + n.addr, "http://127.0.0.1", "http://localhost",
		"chrome-extension://evil",
	} {
		upgrades[origin] = knock{n.upgrade(v2, "Origin: "+origin), http.StatusForbidden}
	}
	m := n.endure(t, abuse{row: "B17", one: n.knocks(upgrades), connections: crowd / 2})
	// Who is refused may be many; the log has the 1st, 2nd, 4th, 8th … of them.
	if m.lines > 20 || !strings.Contains(n.output(t), "refusing a page") {
		t.Errorf("%d lines say that pages are refused, want one now and then", m.lines)
	}
	for _, origin := range []string{"https://example.com", "https://EXAMPLE.com", "http://" + n.addr} {
		h, err := n.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if response, err := h.request(n.upgrade(v2, "Origin: "+origin)); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("the origin %s is answered with %v, %v", origin, response, err)
		}
	}
}

func TestB18RequestsThatAreNoUpgrade(t *testing.T) {
	n := startNode(t, nodeConfig{})
	upgrade := n.upgrade(v2, "X-Canary: "+canary)
	without := func(header string) string {
		begin := strings.Index(upgrade, header+":")
		return upgrade[:begin] + upgrade[begin+strings.Index(upgrade[begin:], "\r\n")+2:]
	}
	with := func(header, value string) string {
		return strings.Replace(without(header), "\r\n\r\n", "\r\n"+header+": "+value+"\r\n\r\n", 1)
	}
	plain := func(method string) string {
		return method + " " + path + "?" + canary + " HTTP/1.1\r\nHost: " + n.addr + "\r\n"
	}
	post := "Content-Length: " + fmt.Sprint(len(canary)) + "\r\n\r\n" + canary
	requests := map[string]knock{
		"a plain GET":            {plain("GET") + "\r\n", 400},
		"a POST":                 {plain("POST") + post, 400},
		"a POST to upgrade":      {strings.Replace(upgrade, "GET", "POST", 1), 405},
		"a PUT":                  {plain("PUT") + post, 400},
		"no method there is":     {plain("CANARY") + "\r\n", 400},
		"no Upgrade":             {without("Upgrade"), 400},
		"no Connection":          {without("Connection"), 400},
		"an Upgrade to h2c":      {with("Upgrade", "h2c"), 400},
		"no version":             {without("Sec-WebSocket-Version"), 400},
		"version 8":              {with("Sec-WebSocket-Version", "8"), 400},
		"a version that is none": {with("Sec-WebSocket-Version", canary), 400},
		"no key":                 {without("Sec-WebSocket-Key"), 400},
		"an empty key":           {with("Sec-WebSocket-Key", ""), 400},
		"a short key":            {with("Sec-WebSocket-Key", "AAAA"), 400},
		"a key that is none":     {with("Sec-WebSocket-Key", canary+"!"), 400},
		"HTTP/1.0":               {strings.Replace(upgrade, "HTTP/1.1", "HTTP/1.0", 1), 400},
		"HTTP/3":                 {strings.Replace(upgrade, "HTTP/1.1", "HTTP/3.0", 1), 505},
		"no Host":                {without("Host"), 400},
		"two Hosts":              {strings.Replace(upgrade, "Host: ", "Host: "+canary+"\r\nHost: ", 1), 400},
		"no HTTP":                {canary + "\r\n\r\n", 400},
		"a header that is none":  {strings.Replace(upgrade, "X-Canary:", "X-Canary", 1), 400},
		"another path":           {strings.Replace(upgrade, path, "/"+canary, 1), 404},
	}
	n.endure(t, abuse{row: "B18", one: n.knocks(requests), connections: crowd / 2})

	// Who talks before it is let in is not let in.
	h, err := n.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if response, err := h.request(upgrade + string(text(canary))); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("talking before the answer is answered with %v, %v, want the end", response, err)
	}
}

// The http.Server of the README, and of the node here.
const (
	readmeServer  = "ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10"
	headerTimeout = 5 * time.Second
)

func TestB19SlowAndLargeHeaders(t *testing.T) {
	for _, file := range []string{"../../README.md", "nodeprocess.go"} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), readmeServer) {
			t.Errorf("%s has no http.Server with %s (%v)", file, readmeServer, err)
		}
	}
	n := startNode(t, nodeConfig{IdleTimeout: 2 * time.Second})
	line := "X-" + canary + ": " + strings.Repeat("x", 1000) + "\r\n"
	large := []string{strings.Repeat(line, 24), strings.Repeat(line, 1040)} // 24 KiB and 1 MiB
	head := strings.TrimSuffix(n.upgrade(v2, "X: "+canary), "\r\n\r\n")

	// At once: large headers; nothing more after a request; nothing at all; and a byte
	// of a header now and then.
	slow := func(i int) (int, []*hostile, error) {
		switch i % 4 {
		case 0:
			open, _, err := n.askInTime(head+"\r\n"+large[i/4%2]+"\r\n", http.StatusRequestHeaderFieldsTooLarge)
			return 1, open, err
		case 1:
			open, asked, err := n.askInTime("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", 400)
			if err == nil {
				err = open[0].hungUp(asked, 2*time.Second)
			}
			return 2, open, err
		}
		begin := time.Now() // before the node's clock can start, however late this one is to go on
		h, err := n.dial()
		if err != nil {
			return 0, nil, err
		}
		open := []*hostile{h}
		if i%4 == 2 {
			return 1, open, h.hungUp(begin, headerTimeout)
		}
		frames := 0
		for ; h.drip(head[frames%len(head)]); frames++ {
			if time.Since(begin) > patience {
				return 0, open, errors.New("it is listened to for ever")
			}
			time.Sleep(100 * time.Millisecond)
		}
		return frames, open, nil
	}
	// And as much of a header as may be, from each, with no end of it.
	unfinished := func(i int) (int, []*hostile, error) {
		h, err := n.dial()
		if err != nil {
			return 0, nil, err
		}
		_, err = io.WriteString(h, head+"\r\n"+large[0][:(16<<10)-len(head)-100])
		return 1, []*hostile{h}, err
	}
	n.endure(t, abuse{row: "B19", one: slow, held: unfinished, hands: crowd})

	// Many connections that say nothing.
	idle := func(int) (int, []*hostile, error) {
		h, err := n.dial()
		return 1, []*hostile{h}, err
	}
	n.endure(t, abuse{row: "B19, idle", one: idle, connections: 10 * crowd})
}

// askInTime sends a request on a new connection and wants it to be answered with a status.
// On a machine so busy that the request comes after the time for headers it asks again.
func (n *node) askInTime(request string, status int) (open []*hostile, asked time.Time, err error) {
	for range tries {
		hangUp(open)
		connecting := time.Now()
		h, err := n.dial()
		if err != nil {
			return nil, asked, err
		}
		open, asked = []*hostile{h}, time.Now()
		if err = h.answer(request, status); err == nil || time.Since(connecting) < headerTimeout {
			return open, asked, err
		}
	}
	return open, asked, errors.New("no request came within the time for its headers")
}

// drip sends a byte, and returns false when nobody takes it any more.
func (h *hostile) drip(b byte) bool {
	_, err := h.Write([]byte{b})
	return err == nil
}

// hungUp waits for the node to end the connection without a word, and returns an
// error unless that takes about as long as it should. begin is no later than the node's
// clock has started.
func (h *hostile) hungUp(begin time.Time, after time.Duration) error {
	if err := h.SetReadDeadline(begin.Add(after + patience)); err != nil {
		return err
	}
	_, err := h.r.ReadByte()
	if took := time.Since(begin); !errors.Is(err, io.EOF) || took < after || took > after+10*time.Second {
		return fmt.Errorf("after %v: %w, want the end after %v", took, err, after)
	}
	return nil
}

// Compression is not offered, so there is nothing to be blown up.
func TestB22Compression(t *testing.T) {
	n := startNode(t, nodeConfig{})
	small := bomb(16 << 20)
	offer := func(i int) (int, []*hostile, error) {
		h, err := n.dial()
		if err != nil {
			return 0, nil, err
		}
		open := []*hostile{h}
		response, err := h.request(n.upgrade(wires[i%len(wires)],
			"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, permessage-bzip2; x="+canary+", x-webkit-deflate-frame"))
		if err != nil {
			return 0, open, err
		}
		if got := response.Header["Sec-Websocket-Extensions"]; response.StatusCode != http.StatusSwitchingProtocols || got != nil {
			return 0, open, fmt.Errorf("answered with %s and the extensions %q", response.Status, got)
		}
		_, err = h.do(ends(1002, frame(final|rsv1|opText, small)))
		return 2, open, err
	}
	n.endure(t, abuse{row: "B22", one: offer})
}

// bomb is so many zero bytes as permessage-deflate sends them.
func bomb(size int64) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, err = io.CopyN(w, zeros{}, size)
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		panic(err) // writing to memory
	}
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
