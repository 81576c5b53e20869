package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the processor time that the operating system has counted for this
// process, in user and system mode together.
func CPU() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// Memory is what a process holds, in bytes.
type Memory struct {
	Resident int // by the operating system's account
	Heap     int // of that, objects in use on Go's heap
	Stack    int // and on goroutines' stacks
}

// Collect collects garbage, gives what is free back to the operating system, and
// returns what is left.
func Collect() (m Memory, err error) {
	for range 2 { // what has a finalizer, or is in a sync.Pool, survives the first
		runtime.GC()
	}
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.Heap, m.Stack = int(s.HeapAlloc), int(s.StackInuse)
	m.Resident, err = resident()
	return m, err
}

func resident() (bytes int, err error) {
	f, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if kib := 0; strings.HasPrefix(lines.Text(), "Rss:") {
			if _, err := fmt.Sscanf(lines.Text(), "Rss: %d kB", &kib); err != nil {
				return 0, err
			}
			return kib << 10, nil
		}
	}
	return 0, errors.Join(errors.New("no line Rss in smaps_rollup"), lines.Err())
}
