// Package load is the process that loads the server under test: thousands of
// WebSocket clients in one goroutine around epoll, so that it costs little and
// disturbs nothing, and the clock that tells how long rows took.
package load

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/entity-sync/entity-sync/bench/workload"
)

// Config is what a load is started with.
type Config struct {
	Addr, Changes string // the server's; see server.Hello
	Wire          Wire
	Layout        workload.Layout
	Secrets       bool // each client has one of its own, and wants no row but its own; on v2

	// Spin has the load look for something to read again and again instead of
	// sleeping until there is: it then never has to be woken by the server, whose
	// time that would take. It needs a core of its own.
	Spin bool
}

// loop is all clients. Nothing is read while none of its methods runs.
type loop struct {
	config  Config
	server  unix.SockaddrInet4
	changes net.Conn
	epoll   int
	events  []unix.EpollEvent
	buffer  []byte
	clients []client

	open, live int
	versions   []string // by key
	rows       rows
}

func newLoop(c Config) (*loop, error) {
	addr, err := netip.ParseAddrPort(c.Addr)
	if err != nil {
		return nil, err
	}
	l := &loop{
		config: c, server: unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()},
		events: make([]unix.EpollEvent, 512), buffer: make([]byte, 64<<10),
		clients: make([]client, c.Layout.Clients), versions: make([]string, c.Layout.Keys), rows: newRows(c.Layout),
	}
	for n := range l.clients {
		l.clients[n] = client{number: n, fd: -1}
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.changes, err = net.Dial("tcp", c.Changes); err != nil {
		return nil, err
	}
	return l, nil
}

// handshakes bounds the connections that are being made at once: the queue of the
// server's listener holds some thousands, and what does not fit is tried again
// only after a second.
const handshakes = 512

// connect has clients connect and subscribe, those that have not, until all are
// live or, where the wire has no way to say so, upgraded.
func (l *loop) connect(deadline time.Time) error {
	next := 0
	begin := func() error {
		for ; next < len(l.clients) && next-l.live < handshakes; next++ {
			if err := l.dial(&l.clients[next]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := begin(); err != nil {
		return err
	}
	return l.until(deadline, func() bool { return l.live == len(l.clients) }, begin,
		func() error {
			return fmt.Errorf("%d of %d clients are live, %d upgraded", l.live, len(l.clients), l.open)
		})
}

func (l *loop) dial(c *client) (err error) {
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := unix.Connect(c.fd, &l.server); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return l.watch(unix.EPOLL_CTL_ADD, c, unix.EPOLLOUT)
}

// watch says what to wake up for. Of what can be read only the arrival counts:
// read goes on until nothing is left.
func (l *loop) watch(how int, c *client, events uint32) error {
	return unix.EpollCtl(l.epoll, how, c.fd, &unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(c.number)})
}

// until reads until done is true, and calls after, if there is one, whenever it has
// read. late says what is missing when the deadline has passed.
func (l *loop) until(deadline time.Time, done func() bool, after, late func() error) error {
	for !done() {
		if !time.Now().Before(deadline) {
			return fmt.Errorf("too late: %w", late())
		}
		if err := l.poll(10 * time.Millisecond); err != nil {
			return err
		}
		if after != nil {
			if err := after(); err != nil {
				return err
			}
		}
	}
	return nil
}

// poll reads what there is to read, and waits for that no longer than it may.
func (l *loop) poll(wait time.Duration) error {
	timeout := int(wait.Milliseconds())
	if l.config.Spin {
		timeout = 0
	}
	n, err := unix.EpollWait(l.epoll, l.events, timeout)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range l.events[:n] {
		c := &l.clients[e.Fd]
		if c.fd < 0 || c.stopped {
			continue
		}
		if err := l.handle(c); err != nil {
			return fmt.Errorf("client %d: %w", c.number, err)
		}
	}
	return nil
}

func (l *loop) handle(c *client) error {
	if c.state != connecting {
		return l.read(c)
	}
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	c.state = upgrading
	if err := c.write(c.request(l.config.Addr, l.config.Wire)); err != nil {
		return err
	}
	return l.watch(unix.EPOLL_CTL_MOD, c, unix.EPOLLIN)
}

func (l *loop) read(c *client) error {
	for {
		n, err := unix.Read(c.fd, l.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("reading: %w", err)
		case n == 0:
			return errors.New("the server has hung up")
		}
		if err := l.take(c, l.buffer[:n]); err != nil {
			return err
		}
		if n < len(l.buffer) {
			return nil // nothing was left
		}
	}
}

// take acts on what has come.
func (l *loop) take(c *client, b []byte) error {
	now := time.Now().UnixNano()
	if len(c.partial) > 0 {
		b = append(c.partial, b...)
		c.partial = nil
	}
	if c.state == upgrading {
		rest, ok, err := c.readUpgrade(b)
		if err != nil {
			return err
		}
		if !ok {
			c.keep(b)
			return nil
		}
		if err := l.upgraded(c); err != nil {
			return err
		}
		b = rest
	}
	for {
		opcode, message, rest, ok, err := nextFrame(b)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := l.receive(c, opcode, message, now); err != nil {
			return err
		}
		b = rest
	}
	if len(b) > 0 {
		c.keep(b)
	}
	return nil
}

// upgraded subscribes.
func (l *loop) upgraded(c *client) error {
	c.state = open
	l.open++
	keys, versions := make([]int, l.config.Layout.Each), make([]string, l.config.Layout.Each)
	for n := range keys {
		keys[n] = l.config.Layout.Key(c.number, n)
		versions[n] = l.versions[keys[n]]
	}
	if l.config.Secrets {
		c.wanted++
		if err := c.write(clientFrame(opText, []byte(l.config.Wire.identify(workload.Secret(c.number))))); err != nil {
			return err
		}
	}
	return l.subscribe(c, keys, versions, true)
}

func (l *loop) subscribe(c *client, keys []int, versions []string, first bool) error {
	if c.wanted += l.config.Wire.answers(len(keys), first); c.wanted == 0 && first {
		l.live++
	}
	for _, message := range l.config.Wire.subscribe(keys, versions, first) {
		if err := c.write(clientFrame(opText, []byte(message))); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) receive(c *client, opcode byte, message []byte, now int64) error {
	switch opcode {
	case opText:
	case opPing:
		return c.write(clientFrame(opPong, message))
	case opPong:
		return nil
	case opClose:
		return fmt.Errorf("closed by the server: %q", message)
	default:
		return fmt.Errorf("a frame with opcode %d", opcode)
	}
	if l.config.Wire.pings(message) {
		if err := c.write(clientFrame(opText, []byte(centrifugePing))); err != nil {
			return err
		}
	}
	if c.answers < c.wanted {
		if err := l.answer(c, message); err != nil {
			return err
		}
	}
	return l.rows.receive(c.number, message, now)
}

// answer counts what the client was waiting for.
func (l *loop) answer(c *client, message []byte) error {
	n, err := l.config.Wire.count(message)
	if err != nil {
		return err
	}
	if key, version, ok := l.config.Wire.version(message); ok && key < len(l.versions) {
		l.versions[key] = version
	}
	c.answers += n
	if n > 0 && c.answers == c.wanted {
		l.live++
	}
	return nil
}

// hangUp ends all connections.
func (l *loop) hangUp() (err error) {
	for n := range l.clients {
		err = errors.Join(err, l.clients[n].hangUp())
	}
	l.open, l.live = 0, 0
	return err
}

// change asks the server to change keys.
func (l *loop) change(keys []int) error {
	var lines []byte
	for _, key := range keys {
		lines = fmt.Appendf(lines, "%d\n", key)
		l.rows.changed(key)
	}
	_, err := l.changes.Write(lines)
	return err
}
