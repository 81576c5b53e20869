package notify

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// childVariable makes a program that imports this package be a process under
// measurement, as it says.
const childVariable = "ENTITY_SYNC_BENCH_NOTIFY"

// role is what a child process is to be.
type role struct {
	Subject string // goNSQ, busAlone, node; or daemon
	NSQD    string // its address
	Watched int    // keys that the node's own clients watch
	Data    string // the daemon's folder
}

const daemon = "nsqd"

// order is what a child is told to do; exactly one field is set.
type order struct {
	Usage *struct{} `json:",omitempty"`
	Load  *load     `json:",omitempty"`
	Lone  *lone     `json:",omitempty"`
}

// answer is what came of it.
type answer struct {
	Err       string
	CPU       time.Duration // of the process since its start
	Heard     int           // keys heard since its start
	Announced int           // keys, by a load
	Elapsed   time.Duration // of a load
	Delays    delays
}

func init() {
	what := os.Getenv(childVariable)
	if what == "" {
		return
	}
	if err := serve(what); err != nil {
		log.Fatal(err)
	}
	os.Exit(0)
}

// serve is the child's main: it says that it is ready with one line, and then
// answers each line of its standard input, until that ends.
func serve(what string) error {
	var r role
	if err := json.Unmarshal([]byte(what), &r); err != nil {
		return err
	}
	if r.Subject == daemon {
		return serveDaemon(r.Data)
	}
	s, err := newSubject(r)
	if err != nil {
		return err
	}
	defer s.close()
	fmt.Println(r.NSQD)
	orders, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(obey(s, o)); err != nil {
			return err
		}
	}
}

func obey(s subject, o order) (a answer) {
	var err error
	switch {
	case o.Load != nil:
		a.Announced, a.Elapsed, err = o.Load.run(s)
	case o.Lone != nil:
		a.Delays, err = o.Lone.run(s)
	}
	if err != nil {
		a.Err = err.Error()
	}
	a.CPU, a.Heard = processorTime(), s.heard()
	return a
}

// processorTime is what the operating system has counted for this process.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // the arguments are constants
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// child is a process under measurement, from the outside.
type child struct {
	cmd     *exec.Cmd
	orders  io.WriteCloser
	answers *bufio.Reader
	first   string // what it said when it was ready
}

func start(r role) (*child, error) {
	what, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(os.Args[0])} //nolint:gosec,noctx // this program itself; end ends it
	c.cmd.Env = append(os.Environ(), childVariable+"="+string(what))
	c.cmd.Stderr = os.Stderr
	if c.orders, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.answers = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := fmt.Fscanln(c.answers, &c.first); err != nil {
		return nil, fmt.Errorf("starting %s: %w", r.Subject, errors.Join(err, c.end()))
	}
	return c, nil
}

// ask has the child do what it is told, and waits for it.
func (c *child) ask(o order) (a answer, err error) {
	if err := json.NewEncoder(c.orders).Encode(o); err != nil {
		return a, err
	}
	line, err := c.answers.ReadBytes('\n')
	if err != nil {
		return a, fmt.Errorf("the process under measurement: %w", err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, err
	}
	if a.Err != "" {
		return a, errors.New(a.Err)
	}
	return a, nil
}

// end ends the child: it stops when its standard input does.
func (c *child) end() error {
	c.orders.Close()
	return c.cmd.Wait()
}
