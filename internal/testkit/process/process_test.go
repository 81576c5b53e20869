package process

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

type greeting struct{ Name string }

func TestMain(m *testing.M) {
	Main("greeter", greet)
	Main("broken", func(greeting) error { return errors.New("does not start") })
	goleak.VerifyTestMain(m)
}

func greet(c greeting) error {
	terminated := Terminated()
	fmt.Println("hello", c.Name)
	<-terminated
	fmt.Println("goodbye")
	return nil
}

func TestAProcessFromItsStartToItsEnd(t *testing.T) {
	var said testkit.Buffer
	p, err := Start("greeter", greeting{"Ann Lee"}, Options{Output: &said})
	if err != nil {
		t.Fatal(err)
	}
	if p.Hello != "hello Ann Lee" {
		t.Errorf("it says %q", p.Hello)
	}
	p.Freeze(t)
	p.Thaw(t)
	if err := p.End(t, syscall.SIGTERM); err != nil || said.String() != "goodbye\n" {
		t.Errorf("it ended with %v and %q", err, said.String())
	}
	if err := p.End(t, syscall.SIGKILL); err != nil { // it has ended
		t.Errorf("then it ended with %v", err)
	}
}

func TestAProcessThatIsKilled(t *testing.T) {
	p, err := Start("greeter", greeting{}, Options{Output: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.End(t, syscall.SIGKILL); err == nil || p.State().Success() {
		t.Errorf("it ended with %v, %v", err, p.State())
	}
}

func TestAProcessThatDoesNotStart(t *testing.T) {
	var said testkit.Buffer
	if _, err := Start("broken", greeting{}, Options{Output: &said}); err == nil || !strings.Contains(said.String(), "broken: does not start") {
		t.Errorf("Start returned %v, and the process said %q", err, said.String())
	}
}
