package socket

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

// Poller waits for messages from all idle clients together, so that a client that only listens
// needs no goroutine and no stack. It has an epoll(7) of its own, because waiting by the
// runtime's takes a goroutine for each.
//
// It opens when the first socket is armed. If that fails, connections keep their goroutines.
type Poller struct {
	log  *slog.Logger
	work sync.WaitGroup

	mu      sync.Mutex // taken after a socket's own
	epoll   *os.File
	number  int      // epoll's file descriptor
	failed  error    // why there is no epoll
	waiting []Waiter // by their sockets' file descriptors, which the kernel gives from 0 on
	count   int      // of the waiters
}

// Waiter is resumed when its client has sent something, or is gone.
type Waiter interface{ Resume() }

const (
	// said is the event to wait for: a client has sent something, or is gone. It is reported
	// once.
	said = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

	// toldAtOnce is how many events one call of the kernel returns.
	toldAtOnce = 128
)

// NewPoller returns a Poller without waiters.
func NewPoller(log *slog.Logger) *Poller {
	return &Poller{log: log}
}

// Arm has w.Resume called, once, as soon as there is something to read from the socket,
// which must be Immediate.
func (p *Poller) Arm(s *Socket, w Waiter) (err error) {
	arm := func(fd uintptr) { err = p.register(int(fd), s, w) }
	return errors.Join(s.raw.Control(arm), err)
}

func (p *Poller) register(number int, s *Socket, w Waiter) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoll == nil && p.failed == nil {
		if p.failed = p.openLocked(); p.failed != nil {
			p.log.Warn("idle clients will need a goroutine each", slog.Any("error", p.failed))
		}
	}
	if p.failed != nil {
		return p.failed
	}
	op, event := syscall.EPOLL_CTL_MOD, syscall.EpollEvent{Events: said, Fd: int32(number)} //nolint:gosec // files are numbered with a C int
	known := p.waiterLocked(number) == w
	if !known { // an earlier waiter's socket with this number was closed, so the kernel forgot it
		op = syscall.EPOLL_CTL_ADD
	}
	err := syscall.EpollCtl(p.number, op, number, &event)
	if err == nil && !known { // after an error the next Arm tries anew
		p.addLocked(number, w)
		s.number = number
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (p *Poller) addLocked(number int, w Waiter) {
	if missing := number + 1 - len(p.waiting); missing > 0 {
		p.waiting = append(p.waiting, make([]Waiter, missing)...)
	}
	if p.waiting[number] == nil {
		p.count++
	}
	p.waiting[number] = w
}

// waiterLocked returns nil if the number has no waiter.
func (p *Poller) waiterLocked(number int) Waiter {
	if number >= len(p.waiting) {
		return nil
	}
	return p.waiting[number]
}

// openLocked opens an epoll that the runtime waits for, as for any other file.
func (p *Poller) openLocked() error {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err == nil {
		err = f.SetReadDeadline(time.Time{}) // fails if the runtime cannot wait for the file
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	p.epoll, p.number = f, fd
	p.work.Go(func() { p.run(raw) })
	return nil
}

// run resumes waiters until Close.
func (p *Poller) run(raw syscall.RawConn) {
	var told [toldAtOnce]syscall.EpollEvent
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), told[:], 0)
			return n > 0 || err != nil // otherwise the runtime waits
		})
		if err != nil { // closed
			return
		}
		for _, event := range told[:max(0, n)] {
			if w := p.waiter(int(event.Fd)); w != nil {
				w.Resume()
			}
		}
	}
}

func (p *Poller) waiter(number int) Waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiterLocked(number)
}

// Forget undoes Arm. It does nothing if the socket was not armed.
func (p *Poller) Forget(s *Socket, w Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiterLocked(s.number) == w { // otherwise the number is another waiter's by now
		p.waiting[s.number] = nil
		p.count--
	}
}

// Waiting returns how many sockets are armed and not forgotten.
func (p *Poller) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Close stops resuming waiters. It may be called more than once.
func (p *Poller) Close() {
	p.mu.Lock()
	if p.failed == nil {
		p.failed = os.ErrClosed
		if p.epoll != nil {
			_ = p.epoll.Close()
		}
	}
	p.mu.Unlock()
	p.work.Wait()
}
