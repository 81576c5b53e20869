package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/nodetest"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.ServesHTTP()) }

const patience = testkit.Patience

// server has rows that a test puts there, for who says "me".
type server struct {
	t    *testing.T
	node *nodetest.Node
	url  string
	rows sync.Map
}

func start(t *testing.T) *server {
	node := nodetest.Start(t, es.Config{Logger: slog.New(slog.DiscardHandler)})
	s := &server{t: t, node: node, url: node.URL}
	err := es.Register(node.EntitySync, "items", func(_ context.Context, key shared.EntityKey, secret string) (json.RawMessage, error) {
		row, ok := s.rows.Load(key.ID)
		switch {
		case secret != "me":
			return nil, shared.ErrForbidden
		case !ok:
			return nil, shared.ErrNotFound
		}
		return json.RawMessage(row.(string)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) put(id, row string) {
	s.rows.Store(id, row)
	s.tell(id)
}

func (s *server) tell(id string) {
	s.t.Helper()
	if err := s.node.Notify(context.Background(), shared.EntityKey{Entity: "items", ID: id}); err != nil {
		s.t.Fatal(err)
	}
}

// program is a run of the command.
type program struct {
	t              *testing.T
	stdout, stderr testkit.Buffer
	stop           context.CancelFunc
	code           chan int
}

func (s *server) watch(secret string, args ...string) *program {
	s.t.Setenv("WATCH_TEST_SECRET", secret)
	ctx, stop := context.WithCancel(context.Background())
	p := &program{t: s.t, stop: stop, code: make(chan int, 1)}
	go func() {
		p.code <- run(ctx, append([]string{"-url", s.url, "-secret-env", "WATCH_TEST_SECRET"}, args...), &p.stdout, &p.stderr)
	}()
	s.t.Cleanup(stop)
	return p
}

// untilPrinted waits for all that the program prints.
func (p *program) untilPrinted(want string) {
	p.t.Helper()
	for end := time.Now().Add(patience); p.stdout.String() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("printed\n%s\nwant\n%s\nand said\n%s", &p.stdout, want, &p.stderr)
		}
	}
}

// untilSaid waits for a text on standard error.
func (p *program) untilSaid(want string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(p.stderr.String(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it said\n%s\nwant %q", &p.stderr, want)
		}
	}
}

func (p *program) wantCode(want int) {
	p.t.Helper()
	select {
	case code := <-p.code:
		if code != want {
			p.t.Errorf("the exit code is %d, want %d; it said\n%s", code, want, &p.stderr)
		}
	case <-time.After(patience):
		p.t.Fatalf("it does not end; it said\n%s", &p.stderr)
	}
}

func TestJSONLines(t *testing.T) {
	s := start(t)
	s.put("100", `{"name":"<tea>"}`)
	p := s.watch("me", "items/100", "items/1/2")
	lines := func(rest string) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			var got []string
			for line := range strings.Lines(p.stdout.String()) {
				var l struct {
					ID      string
					Version string
					Deleted bool
					Rows    []json.RawMessage
				}
				if err := json.Unmarshal([]byte(line), &l); err != nil || (len(l.Version) == 22) == l.Deleted {
					t.Fatalf("a line is %q, %v", line, err)
				}
				got = append(got, fmt.Sprintf("%s %v %s", l.ID, l.Deleted, l.Rows))
			}
			if len(got) > 1 && got[0] > got[1] { // the first two come in any order
				got[0], got[1] = got[1], got[0]
			}
			if strings.Join(got, "; ") == rest {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("printed %q, want %q; it said\n%s", got, rest, &p.stderr)
			}
		}
	}
	first := `1/2 true []; 100 false [{"name":"<tea>"}]`
	lines(first)
	s.tell("100") // nothing is different: nothing is printed
	s.put("1/2", `7`)
	lines(first + `; 1/2 false [7]`)
	s.rows.Delete("100")
	s.tell("100")
	lines(first + `; 1/2 false [7]; 100 true []`)
	p.untilSaid("watch: live\n") // "connecting" is left out where it was over before anybody looked
	p.stop()
	p.wantCode(0)
}

func TestDiff(t *testing.T) {
	s := start(t)
	s.put("100", `{"name":"tea","price":1}`)
	p := s.watch("me", "-format", "diff", "items/100")
	first := "items/100\n+ {\n+   \"name\": \"tea\",\n+   \"price\": 1\n+ }\n"
	p.untilPrinted(first)
	s.put("100", `{"name":"tea","price":2}`)
	second := first + "items/100\n-   \"price\": 1\n+   \"price\": 2\n"
	p.untilPrinted(second)
	s.rows.Delete("100")
	s.tell("100")
	p.untilPrinted(second + "items/100 has no row\n- {\n-   \"name\": \"tea\",\n-   \"price\": 2\n- }\n")
	p.stop()
	p.wantCode(0)
}

func TestExitCodes(t *testing.T) {
	s := start(t)
	p := s.watch("somebody", "items/100", "items/101", "items/100")
	p.wantCode(exitRefused)
	if got := p.stderr.String(); strings.Count(got, "is denied: forbidden") != 2 {
		t.Errorf("it said\n%s", got)
	}
	for _, args := range [][]string{{}, {"items"}, {"items/100", "/"}, {"-format", "xml", "items/1"}, {"-nonsense"}, {"-url", "nowhere", "items/1"}} {
		s.watch("me", args...).wantCode(exitUsage)
	}
	s.watch("me", "-h").wantCode(0)
}

func TestColours(t *testing.T) {
	var out bytes.Buffer
	print := diffs(&out, true)
	before, now := updateOf(`{"a":"\u0007\u009b"}`), updateOf(`{"a":1}`)
	if err := print(before, now); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[1mitems/1\x1b[0m\n\x1b[31m-   \"a\": \"\\u0007\\u009b\"\x1b[0m\n\x1b[32m+   \"a\": 1\x1b[0m\n"
	if out.String() != want {
		t.Errorf("printed %q, want %q", &out, want)
	}
	if got := printable("a\x1b[31m\u009bb"); got != "a[31mb" {
		t.Errorf("printable returns %q", got)
	}
}

func updateOf(row string) client.Update {
	return client.Update{Key: shared.EntityKey{Entity: "items", ID: "1"}, Rows: []json.RawMessage{json.RawMessage(row)}}
}

func TestDiffOfLines(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""}, {"", "a", "+ a"}, {"a", "", "- a"}, {"a b c", "a c", "- b"}, {"a c", "a b c", "+ b"}, {"a b", "b a", "- a,+ a"},
		{"a b c d", "a x c y", "- b,+ x,- d,+ y"},
	} {
		if got := strings.Join(diff(strings.Fields(c.a), strings.Fields(c.b)), ","); got != c.want {
			t.Errorf("from %q to %q it is %q, want %q", c.a, c.b, got, c.want)
		}
	}
	long := make([]string, maxDiff+1)
	if got := diff([]string{"a"}, long); len(got) != len(long) {
		t.Errorf("of a long text %d lines are shown", len(got))
	}
}

func TestMessagesAreNotRepeated(t *testing.T) {
	var out bytes.Buffer
	m := messages{out: &out}
	for _, s := range []client.Status{{State: client.Live}, {State: client.Offline, Err: context.Canceled}, {State: client.Offline, Err: context.Canceled}, {State: client.Live}} {
		m.connection(s)
	}
	if want := "watch: live\nwatch: offline: context canceled\nwatch: live\n"; out.String() != want {
		t.Errorf("said %q, want %q", &out, want)
	}
}
