package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/entity-sync/entity-sync/bench/process"
)

// Role is the process's main function.
func Role(config json.RawMessage) (any, process.Commands, error) {
	var c Config
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, nil, err
	}
	l, err := newLoop(c)
	if err != nil {
		return nil, nil, err
	}
	return process.None{}, process.Commands{
		"connect":   process.Command(l.connectAll),
		"hang up":   process.Command(func(process.None) (process.None, error) { return process.None{}, l.hangUp() }),
		"idle":      process.Command(l.idle),
		"subscribe": process.Command(l.subscribeMore),
		"stop":      process.Command(l.stop),
		"resume":    process.Command(l.resume),
		"fan out":   process.Command(l.fanOut),
		"pace":      process.Command(l.pace),
		"CPU":       process.Command(func(process.None) (time.Duration, error) { return process.CPU() }),
	}, nil
}

// patience bounds each wait for the server.
const patience = 2 * time.Minute

// connectAll has all clients connect and subscribe, and returns how long it took
// until all were live.
func (l *loop) connectAll(process.None) (time.Duration, error) {
	begin := time.Now()
	err := l.connect(begin.Add(patience))
	return time.Since(begin), err
}

// idle only reads, and answers pings.
func (l *loop) idle(d time.Duration) (process.None, error) {
	spin := l.config.Spin
	l.config.Spin = false
	defer func() { l.config.Spin = spin }()
	return process.None{}, l.pause(d)
}

func (l *loop) pause(d time.Duration) error {
	end := time.Now().Add(d)
	return l.until(end.Add(patience), func() bool { return time.Now().After(end) }, nil, nil)
}

// More are further subscriptions of one client: to keys that lie beyond the layout,
// and never change.
type More struct{ Client, First, Keys int }

// subscribeMore subscribes, and returns when all are live, if the wire says so.
func (l *loop) subscribeMore(m More) (process.None, error) {
	c := &l.clients[m.Client]
	keys := make([]int, m.Keys)
	for n := range keys {
		keys[n] = m.First + n
	}
	if err := l.subscribe(c, keys, make([]string, m.Keys), false); err != nil {
		return process.None{}, err
	}
	return process.None{}, l.until(time.Now().Add(patience), func() bool { return c.answers >= c.wanted }, nil,
		func() error { return fmt.Errorf("%d of %d answers came", c.answers, c.wanted) })
}

// stop has every n-th client read no more.
func (l *loop) stop(n int) (process.None, error) {
	if n < 1 {
		return process.None{}, errors.New("every how many?")
	}
	for c := 0; c < len(l.clients); c += n {
		l.clients[c].stopped, l.rows.stopped[c] = true, true
		// What has come is not known to the server to be unread until its socket is
		// full, which is soon when little fits.
		if err := unix.SetsockoptInt(l.clients[c].fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10); err != nil {
			return process.None{}, err
		}
	}
	return process.None{}, nil
}

// resume has all clients read again, and returns when each has the newest rows.
func (l *loop) resume(process.None) (process.None, error) {
	for n := range l.clients {
		c := &l.clients[n]
		if !c.stopped {
			continue
		}
		c.stopped, l.rows.stopped[n] = false, false
		if err := l.read(c); err != nil { // what came meanwhile is not told of again
			return process.None{}, fmt.Errorf("client %d: %w", n, err)
		}
	}
	l.rows.expect()
	return process.None{}, l.untilAllCame()
}

// Deliveries is what came of changes.
type Deliveries struct {
	Count     int           // rows that came
	P50, P99  time.Duration // from the change to the arrival, over all rows
	LastDelay time.Duration // of the row that came last
	Elapsed   time.Duration // from before the first change until the last row

	// Of fan-outs alone: from a change to its last row, and to the 99th in a hundred,
	// the median of all changes.
	ToLast, P99OfChange time.Duration
}

func (l *loop) deliveries(begin time.Time) Deliveries {
	r := &l.rows
	return Deliveries{
		Count: r.deliveries, P50: quantile(r.delays, 0.50), P99: quantile(r.delays, 0.99),
		LastDelay: r.lastDelay, Elapsed: time.Duration(r.last - begin.UnixNano()),
	}
}

// untilAllCame waits for what rows.expect has counted.
func (l *loop) untilAllCame() error {
	return l.until(time.Now().Add(patience), func() bool { return l.rows.behind == 0 }, nil,
		func() error { return fmt.Errorf("%d newest rows have not come", l.rows.behind) })
}

// FanOut is changes of one key, each some time after the one before has reached
// everybody.
type FanOut struct {
	Key, Changes int
	Pause        time.Duration
}

func (l *loop) fanOut(f FanOut) (Deliveries, error) {
	begin := time.Now()
	l.rows.begin()
	toLast, p99 := make([]time.Duration, 0, f.Changes), make([]time.Duration, 0, f.Changes)
	for range f.Changes {
		before := len(l.rows.delays)
		if err := l.change([]int{f.Key}); err != nil {
			return Deliveries{}, err
		}
		l.rows.expect()
		if err := l.untilAllCame(); err != nil {
			return Deliveries{}, err
		}
		toLast, p99 = append(toLast, l.rows.lastDelay), append(p99, quantile(l.rows.delays[before:], 0.99))
		// Rows that nobody needed would come now.
		if err := l.pause(f.Pause); err != nil {
			return Deliveries{}, err
		}
	}
	d := l.deliveries(begin)
	d.ToLast, d.P99OfChange = quantile(toLast, 0.50), quantile(p99, 0.50)
	return d, nil
}

// Pace is changes at a steady rate, of all keys in turn.
type Pace struct {
	Changes, PerSecond int
	Each               bool // every single one must arrive, not only the last of each key
	Seed               uint64
}

func (l *loop) pace(p Pace) (Deliveries, error) {
	if p.PerSecond <= 0 {
		return Deliveries{}, errors.New("a pace needs a rate")
	}
	begin := time.Now()
	l.rows.begin()
	due := newOrder(l.config.Layout.Keys, p.Seed)
	for sent := 0; sent < p.Changes; {
		if n := min(int(time.Since(begin).Seconds()*float64(p.PerSecond)), p.Changes) - sent; n > 0 {
			if err := l.change(due.next(n)); err != nil {
				return Deliveries{}, err
			}
			sent += n
		}
		if err := l.poll(time.Millisecond); err != nil {
			return Deliveries{}, err
		}
	}
	l.rows.expect()
	if err := l.untilAllCame(); err != nil {
		return Deliveries{}, err
	}
	d := l.deliveries(begin)
	if want := p.Changes * l.config.Layout.Subscriptions() / l.config.Layout.Keys; p.Each && d.Count < want {
		return Deliveries{}, fmt.Errorf("%d rows came, want %d", d.Count, want)
	}
	return d, nil
}

// order is the keys in an order that looks drawn, over and over: so a key does not
// change again soon.
type order struct {
	keys []int
	at   int
}

func newOrder(keys int, seed uint64) *order {
	return &order{keys: rand.New(rand.NewPCG(seed, 0)).Perm(keys)}
}

func (o *order) next(n int) []int {
	drawn := make([]int, n)
	for i := range drawn {
		drawn[i] = o.keys[o.at]
		o.at = (o.at + 1) % len(o.keys)
	}
	return drawn
}
