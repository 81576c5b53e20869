package process

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Cores is where a process may run. The zero value is anywhere.
type Cores struct{ set *unix.CPUSet }

// Apart returns a core for the server under test and one for all that loads it.
// Where there is only one, both may run anywhere.
func Apart() (server, others Cores, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return Cores{}, Cores{}, err
	}
	var found []*unix.CPUSet
	for cpu := 0; len(found) < 2 && cpu < len(all)*64; cpu++ {
		if all.IsSet(cpu) {
			one := new(unix.CPUSet)
			one.Set(cpu)
			found = append(found, one)
		}
	}
	if len(found) < 2 {
		return Cores{}, Cores{}, nil
	}
	return Cores{found[0]}, Cores{found[1]}, nil
}

// Alone reports whether a core, rather than any, is meant.
func (c Cores) Alone() bool { return c.set != nil }

// start starts a process there. It inherits the place from the thread that starts it,
// so that its runtime finds as many processors as it has.
func (c Cores) start(cmd *exec.Cmd) error {
	if c.set == nil {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, c.set); err != nil {
		return err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	return cmd.Start()
}
