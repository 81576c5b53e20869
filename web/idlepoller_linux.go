package web

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

// idlePoller waits for idle clients to say something, for all of them together, so that
// one that only listens needs no goroutine and no stack. It is an epoll(7) of its own
// beside the runtime's, where waiting takes a goroutine for each.
//
// It opens when the first session is parked. Where it cannot, sessions keep their
// goroutines.
type idlePoller struct {
	log  *slog.Logger
	work sync.WaitGroup

	mu       sync.Mutex // taken after a socket's own
	epoll    *os.File
	number   int   // of epoll, as the kernel knows it
	failed   error // why there is none
	sessions map[int]*session
}

const (
	// said is what a parked session waits for: that its client has sent something, or
	// is gone. Being told once ends the wait.
	said = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT

	// toldAtOnce is of how many sessions the kernel tells in one call.
	toldAtOnce = 128
)

func newIdlePoller(log *slog.Logger) *idlePoller {
	return &idlePoller{log: log, sessions: make(map[int]*session)}
}

// arm has s.resume called as soon as there is something to read from its socket.
func (p *idlePoller) arm(s *session) (err error) {
	arm := func(fd uintptr) { err = p.register(int(fd), s) }
	return errors.Join(s.out.raw.Control(arm), err)
}

func (p *idlePoller) register(socket int, s *session) error {
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
	op, event := syscall.EPOLL_CTL_MOD, syscall.EpollEvent{Events: said, Fd: int32(socket)} //nolint:gosec // files are numbered with a C int
	known := p.sessions[socket] == s
	if !known { // the kernel has forgotten an earlier one's socket when it was closed
		op = syscall.EPOLL_CTL_ADD
	}
	err := syscall.EpollCtl(p.number, op, socket, &event)
	if err == nil && !known { // else it is tried anew the next time
		p.sessions[socket], s.socket = s, socket
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// openLocked has the runtime wait for the epoll itself, as for any other file.
func (p *idlePoller) openLocked() error {
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
		err = f.SetReadDeadline(time.Time{}) // which fails where the runtime cannot wait for it
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	p.epoll, p.number = f, fd
	p.work.Go(func() { p.run(raw) })
	return nil
}

// run wakes sessions until close.
func (p *idlePoller) run(raw syscall.RawConn) {
	var told [toldAtOnce]syscall.EpollEvent
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), told[:], 0)
			return n > 0 || err != nil // else the runtime waits
		})
		if err != nil { // closed
			return
		}
		for _, event := range told[:max(0, n)] {
			if s := p.session(int(event.Fd)); s != nil {
				s.resume()
			}
		}
	}
}

func (p *idlePoller) session(socket int) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[socket]
}

// forget ends what arm began, if it did.
func (p *idlePoller) forget(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[s.socket] == s { // else it is another's already
		delete(p.sessions, s.socket)
	}
}

// close wakes nobody any more. It may be called more than once.
func (p *idlePoller) close() {
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
