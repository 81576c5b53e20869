// Package process runs parts of the benchmark as processes of their own, each on a
// core of its own where there are several: the program starts itself again, in a
// role, and talks to that over its standard input and output.
package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// variable makes the program be what it says.
const variable = "ENTITY_SYNC_BENCH_PROCESS"

// Role is the main function of a process: it takes its configuration, and returns
// what to say first and what it can then be asked.
type Role func(config json.RawMessage) (hello any, commands Commands, err error)

// Commands are what a process can be asked, by name.
type Commands map[string]func(argument json.RawMessage) (any, error)

// Command makes one of a function of an argument.
func Command[A, R any](f func(A) (R, error)) func(json.RawMessage) (any, error) {
	return func(argument json.RawMessage) (any, error) {
		var a A
		if err := json.Unmarshal(argument, &a); err != nil {
			return nil, err
		}
		return f(a)
	}
}

// None is an argument, or a result, of nothing.
type None struct{}

// what a process is told about itself.
type identity struct {
	Role   string
	Config json.RawMessage
}

type question struct {
	Command  string
	Argument json.RawMessage
}

type answer struct {
	Result json.RawMessage `json:",omitempty"`
	Error  string          `json:",omitempty"`
}

// Main must be called first in main and in TestMain. In a process that was started
// in one of the roles it does not return.
func Main(roles map[string]Role) {
	what := os.Getenv(variable)
	if what == "" {
		return
	}
	if err := be(what, roles); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func be(what string, roles map[string]Role) error {
	var id identity
	if err := json.Unmarshal([]byte(what), &id); err != nil {
		return err
	}
	role, ok := roles[id.Role]
	if !ok {
		return fmt.Errorf("there is no role %q", id.Role)
	}
	hello, commands, err := role(id.Config)
	if err := reply(hello, err); err != nil {
		return err
	}
	return obey(commands)
}

// obey answers questions until there are no more, which is also when the process
// that asks is gone.
func obey(commands Commands) error {
	questions := json.NewDecoder(os.Stdin)
	for {
		var q question
		err := questions.Decode(&q)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		command, ok := commands[q.Command]
		if !ok {
			return fmt.Errorf("there is no command %q", q.Command)
		}
		if err := reply(command(q.Argument)); err != nil {
			return err
		}
	}
}

func reply(result any, err error) error {
	var a answer
	if err == nil {
		a.Result, err = json.Marshal(result)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// Process is a running process.
type Process struct {
	role    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan answer
	ended   chan error // one error, or nil
}

// Start starts a process in a role, on certain cores, and waits for its hello.
func Start(ctx context.Context, role string, config any, cores Cores, hello any) (*Process, error) {
	p, err := start(role, config, cores)
	if err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	if err := p.wait(ctx, hello); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the %s: %w", role, err), p.Close())
	}
	return p, nil
}

func start(role string, config any, cores Cores) (*Process, error) {
	encoded, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	what, err := json.Marshal(identity{role, encoded})
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{role: role, answers: make(chan answer), ended: make(chan error, 1)}
	p.cmd = exec.Command(program)
	p.cmd.Env = append(os.Environ(), variable+"="+string(what))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cores.start(p.cmd); err != nil {
		return nil, err
	}
	go p.listen(out)
	return p, nil
}

// listen passes on what the process says, until it has ended.
func (p *Process) listen(out io.Reader) {
	defer close(p.answers)
	answers := json.NewDecoder(bufio.NewReader(out))
	for {
		var a answer
		if answers.Decode(&a) != nil {
			break
		}
		p.answers <- a
	}
	p.ended <- p.cmd.Wait()
}

// Ask asks the process something. After an error of ctx nothing more can be asked.
func (p *Process) Ask(ctx context.Context, command string, argument, result any) error {
	encoded, err := json.Marshal(argument)
	if err == nil {
		err = json.NewEncoder(p.in).Encode(question{command, encoded})
	}
	if err == nil {
		err = p.wait(ctx, result)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", p.role, command, err)
	}
	return nil
}

var errEnded = errors.New("the process has ended")

func (p *Process) wait(ctx context.Context, result any) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case a, ok := <-p.answers:
		switch {
		case !ok:
			return errEnded
		case a.Error != "":
			return errors.New(a.Error)
		case result == nil:
			return nil
		default:
			return json.Unmarshal(a.Result, result)
		}
	}
}

// patience is how long a process may take to end.
const patience = 10 * time.Second

// Close ends the process, and waits for that.
func (p *Process) Close() error {
	p.in.Close()
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	for range p.answers { // that nobody waits for any more
	}
	if err := <-p.ended; err != nil {
		return fmt.Errorf("%s: %w", p.role, err)
	}
	return nil
}
