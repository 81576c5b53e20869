package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// told is what a watch has told a package.
type told struct {
	pkg string
	how os.Signal
}

// watched is a watch with a bound of ten seconds.
type watched struct {
	*watch
	told []told
}

func newWatched() *watched {
	w := &watched{}
	w.watch = &watch{bound: 10 * time.Second, end: func(pkg string, how os.Signal) error {
		w.told = append(w.told, told{pkg, how})
		return nil
	}}
	return w
}

// says has go test say something of the package p: an action and a test.
func (w *watched) says(events ...string) {
	for _, e := range events {
		action, name, _ := strings.Cut(e, " ")
		w.take(event{Action: action, Package: "p", Test: name})
	}
}

// pass lets seconds pass on an idle machine.
func (w *watched) pass(seconds int) (hung []string) {
	for range seconds {
		hung = append(hung, w.tick(time.Second, 1)...)
	}
	return hung
}

func TestATestThatHangsIsEnded(t *testing.T) {
	w := newWatched()
	w.says("start", "run TestA", "pass TestA", "run TestB", "run TestB/inner")
	if w.pass(10); len(w.told) > 0 {
		t.Fatalf("%v before the bound", w.told)
	}
	w.says("output TestB/inner") // a log is no progress
	hung := w.pass(1)
	if !slices.Equal(w.told, []told{{"p", quit}}) || len(hung) != 1 || !strings.Contains(hung[0], "p TestB/inner hangs") {
		t.Fatalf("after the bound: %v, it says %q", w.told, hung)
	}
	// It has as long to print its stacks.
	if w.pass(10); len(w.told) != 1 {
		t.Fatalf("told %v too early", w.told)
	}
	if w.pass(1); !slices.Equal(w.told[1:], []told{{"p", os.Kill}}) {
		t.Fatalf("told %v, want a kill", w.told)
	}
	w.says("fail TestB/inner", "fail TestB", "fail")
	if w.pass(100); len(w.told) != 2 || w.done != 1 {
		t.Errorf("told %v when it has ended, %d packages done", w.told, w.done)
	}
}

// What takes long together, each part within the bound, does not hang.
func TestWhatMakesProgressDoesNotHang(t *testing.T) {
	w := newWatched()
	w.pass(100) // compiling
	for _, e := range []string{
		"start", "run TestA", "run TestA/with/slashes", "pass TestA/with/slashes", "run TestA/2", "pass TestA/2", "pass TestA",
		"run TestB", "pause TestB", "run TestC", "fail TestC", "run TestD", "skip TestD", "cont TestB", "run TestB/1", "pause TestB/1",
		"run TestB/2", "pass TestB/2", "cont TestB/1", "pass TestB/1", "pass TestB",
	} {
		w.says(e)
		if w.pass(9); len(w.told) > 0 {
			t.Fatalf("after %q: %v", e, w.told)
		}
	}
	w.says("pass")
	if w.pass(100); len(w.told) > 0 {
		t.Errorf("told %v when it has ended", w.told)
	}
}

// A test waits for its turn for as long as the others take.
func TestWaitingForATurnIsNotHanging(t *testing.T) {
	w := newWatched()
	w.says("start", "run TestA", "pause TestA", "run TestB")
	for range 5 {
		w.says("run TestB/x")
		w.pass(9)
		w.says("pass TestB/x")
	}
	w.says("cont TestA")
	if w.pass(10); len(w.told) > 0 {
		t.Errorf("told %v", w.told)
	}
}

func TestHangingOutsideATestIsSeen(t *testing.T) {
	for when, events := range map[string][]string{
		"before": {"start"}, "after": {"start", "run TestA", "pass TestA"},
	} {
		w := newWatched()
		w.says(events...)
		if hung := w.pass(11); len(w.told) != 1 || !strings.Contains(hung[0], "outside its tests") {
			t.Errorf("%s the tests: told %v, it says %q", when, w.told, hung)
		}
	}
}

// A machine on which each core is wanted by eight gives a test eight times as long.
func TestTheClockIsThatOfAnIdleMachine(t *testing.T) {
	w := newWatched()
	w.says("start", "run TestA")
	for range 80 {
		w.tick(time.Second, 8)
	}
	if len(w.told) > 0 {
		t.Fatal("told too early")
	}
	for range 8 {
		w.tick(time.Second, 8)
	}
	if len(w.told) != 1 {
		t.Errorf("told %v", w.told)
	}
	w.tick(time.Hour, 0) // where the system does not tell
	if len(w.told) != 1 {
		t.Errorf("told %v on a machine of unknown speed", w.told)
	}
}

func TestSomethingIsSeen(t *testing.T) {
	w := newWatched()
	if got := underWay(w.watch); got != "compiling (0 packages done)" {
		t.Errorf("before: %q", got)
	}
	w.take(event{Action: "start", Package: "example.com/m/q"})
	w.says("start", "run TestA", "run TestB")
	w.pass(1)
	w.says("pass TestA")
	if got := underWay(w.watch); got != "q, p TestB (0 packages done)" {
		t.Errorf("meanwhile: %q", got)
	}
	w.says("run Test" + strings.Repeat("é", 1000))
	if got := underWay(w.watch); len(got) > 150 {
		t.Errorf("%d characters", len(got))
	}
}
