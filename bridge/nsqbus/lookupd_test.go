package nsqbus

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestWhatAnAnswerNames(t *testing.T) {
	node := func(host, port string) string {
		return fmt.Sprintf(`{"broadcast_address":%s,"tcp_port":%s,"http_port":4151,"topics":["items"]}`, host, port)
	}
	long := `"` + strings.Repeat("a", 254) + `"`
	answer := `{"producers":[` + strings.Join([]string{
		node(`"nsq1"`, `4150`), node(`"10.0.0.1"`, `4150`), node(`"::1"`, `4150`), node(`"nsq-2.example.com"`, `65535`), node(`"my_nsq"`, `1`),
		node(`"nsq1"`, `4150`),
		node(`"nsq3"`, `0`), node(`"nsq3"`, `-1`), node(`"nsq3"`, `65536`),
		node(`""`, `4150`), node(`"a b"`, `4150`), node(`"a/b"`, `4150`), node(`"a:b"`, `4150`), node(`"[::1]"`, `4150`), node(`"a\nb"`, `4150`), node(long, `4150`),
		node(`"0.0.0.0"`, `4150`), node(`"::"`, `4150`), node(`"::ffff:0.0.0.0"`, `4150`), node(`"224.0.0.1"`, `4150`), node(`"fe80::1%a/b"`, `4150`),
		`{}`, `null`,
	}, ",") + `]}`
	got, err := parseNodes([]byte(answer))
	want := []string{"nsq1:4150", "10.0.0.1:4150", "[::1]:4150", "nsq-2.example.com:65535", "my_nsq:1"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := parseNodes([]byte(`{"producers":[]}`)); err != nil || len(got) != 0 {
		t.Errorf("an empty list is %q, %v", got, err)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"producers":null}`, `{"message":"NOT_FOUND"}`, `{"producers":[{"tcp_port":"4150"}]}`, `{"producers":[]} {}`} {
		if got, err := parseNodes([]byte(bad)); err == nil {
			t.Errorf("%s is %q, want an error", bad, got)
		}
	}
}

func TestAnAnswerNamesNoMoreThanAThousand(t *testing.T) {
	var producers []string
	for i := range 5000 {
		producers = append(producers, fmt.Sprintf(`{"broadcast_address":"nsq","tcp_port":%d}`, i+1))
	}
	got, err := parseNodes([]byte(`{"producers":[` + strings.Join(producers, ",") + `]}`))
	if err != nil || len(got) != 1000 {
		t.Errorf("of 5000 nsqd %d were taken, %v, want 1000", len(got), err)
	}
}

// An answer without end is given up for its size, not only for its time, with
// all that is in memory of it.
func TestAnEndlessAnswerIsGivenUpForItsSize(t *testing.T) {
	for name, begin := range map[string]string{
		"body":   "HTTP/1.0 200 OK\r\n\r\n" + `{"producers":[]}`,
		"header": "HTTP/1.0 200 OK\r\nX: ",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var serving sync.WaitGroup
			sent := 0
			serving.Go(func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				spaces := strings.Repeat(" ", 1<<20)
				for _, err = io.WriteString(c, begin); err == nil; sent += len(spaces) {
					_, err = io.WriteString(c, spaces)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // for a busy machine
			defer cancel()
			if got, err := get(ctx, l.Addr().String(), "/nodes"); err == nil || !strings.Contains(err.Error(), "more than 8388608 bytes") {
				t.Errorf("got %d bytes, %v, want an error that tells the limit", len(got), err)
			}
			serving.Wait()
			if sent > 3*maxLookupAnswer { // some of it waits in the kernel
				t.Errorf("%d bytes were taken", sent)
			}
		})
	}
}

// Whatever an answer holds, what comes out are addresses, each once.
func FuzzParseNodes(f *testing.F) {
	f.Add([]byte(`{"producers":[{"broadcast_address":"nsq1","tcp_port":4150},{"broadcast_address":"::1","tcp_port":1}]}`))
	f.Add([]byte(`{"producers":[{"broadcast_address":"fe80::1%a b","tcp_port":4150},null]}`))
	f.Add([]byte(`{"producers":null}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		addrs, err := parseNodes(answer)
		if err != nil && addrs != nil {
			t.Errorf("an error and %q", addrs)
		}
		if err := validateAddrs("answer", addrs); err != nil {
			t.Error(err)
		}
		seen := map[string]bool{}
		for _, addr := range addrs {
			if seen[addr] {
				t.Errorf("%q twice", addr)
			}
			seen[addr] = true
			if strings.ContainsAny(addr, " \t\r\n/@?#\x00") {
				t.Errorf("%q is no address", addr)
			}
		}
	})
}
