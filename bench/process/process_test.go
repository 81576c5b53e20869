package process

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Main(map[string]Role{"test": testRole, "broken": func(json.RawMessage) (any, Commands, error) { return nil, nil, errors.New("does not start") }})
	goleak.VerifyTestMain(m)
}

// testRole says what it was told, and where it runs.
func testRole(config json.RawMessage) (any, Commands, error) {
	return config, Commands{
		"double": Command(func(n int) (int, error) { return 2 * n, nil }),
		"fail":   Command(func(None) (None, error) { return None{}, errors.New("failed") }),
		"end":    Command(func(None) (None, error) { os.Exit(0); return None{}, nil }),
		"hang":   Command(func(None) (None, error) { time.Sleep(time.Hour); return None{}, nil }),
		"place": Command(func(None) ([]int, error) {
			var set unix.CPUSet
			err := unix.SchedGetaffinity(0, &set)
			return []int{set.Count(), runtime.GOMAXPROCS(0)}, err
		}),
		"burn": Command(func(d time.Duration) (used time.Duration, err error) {
			before, err := CPU()
			for used < d && err == nil {
				used, err = CPU()
				used -= before
			}
			return used, err
		}),
		"collect": Command(func(n int) (Memory, error) {
			held := make([]byte, n)
			for i := range held {
				held[i] = 1
			}
			m, err := Collect()
			runtime.KeepAlive(held)
			return m, err
		}),
	}, nil
}

func startTest(t *testing.T, cores Cores) *Process {
	t.Helper()
	var hello string
	p, err := Start(t.Context(), "test", "hello", cores, &hello)
	if err != nil {
		t.Fatal(err)
	}
	if hello != "hello" {
		t.Errorf("the process says %q", hello)
	}
	return p
}

func TestAsk(t *testing.T) {
	p := startTest(t, Cores{})
	n := 0
	if err := p.Ask(t.Context(), "double", 21, &n); err != nil || n != 42 {
		t.Errorf("twice 21 is %d, %v", n, err)
	}
	if err := p.Ask(t.Context(), "fail", None{}, nil); err == nil || !strings.Contains(err.Error(), "test: fail: failed") {
		t.Errorf("an error comes back as %v", err)
	}
	var used time.Duration
	if err := p.Ask(t.Context(), "burn", 10*time.Millisecond, &used); err != nil || used < 10*time.Millisecond {
		t.Errorf("a process that was busy for 10 ms has used %v, %v", used, err)
	}
	const held = 64 << 20
	var less, more Memory
	if err := errors.Join(p.Ask(t.Context(), "collect", 0, &less), p.Ask(t.Context(), "collect", held, &more)); err != nil {
		t.Fatal(err)
	}
	if got := more.Resident - less.Resident; got < held*9/10 {
		t.Errorf("holding %d bytes takes %d of memory", held, got)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestEndOfAProcess(t *testing.T) {
	p := startTest(t, Cores{})
	if err := p.Ask(t.Context(), "end", None{}, nil); !errors.Is(err, errEnded) {
		t.Errorf("a process that ends answers %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Start(t.Context(), "broken", nil, Cores{}, nil); err == nil || !strings.Contains(err.Error(), "does not start") {
		t.Errorf("a process that does not start: %v", err)
	}
	if _, err := Start(t.Context(), "unknown", nil, Cores{}, nil); err == nil {
		t.Error("a role that there is not was started")
	}
}

func TestGivingUp(t *testing.T) {
	p := startTest(t, Cores{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Ask(ctx, "hang", None{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a process that hangs: %v", err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err == nil {
		t.Error("a process that was killed has ended well")
	}
}

func TestCores(t *testing.T) {
	one, other, err := Apart()
	if err != nil {
		t.Fatal(err)
	}
	if !one.Alone() {
		t.Log("there is one core")
		return
	}
	if *one.set == *other.set {
		t.Error("both are the same core")
	}
	var before, after unix.CPUSet
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	p := startTest(t, one)
	var place []int
	if err := p.Ask(t.Context(), "place", None{}, &place); err != nil {
		t.Fatal(err)
	}
	if place[0] != 1 || place[1] != 1 {
		t.Errorf("the process has %d cores and %d processors of Go's, want one", place[0], place[1])
	}
	if err := errors.Join(p.Close(), unix.SchedGetaffinity(0, &after)); err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Error("the thread that started it does not run where it ran before")
	}
}
