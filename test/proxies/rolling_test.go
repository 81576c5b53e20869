package proxies

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/entity-sync/entity-sync/internal/pgtest"
	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

var without = flag.String("without", "", `leave a part of a proxy's configuration out, such as "nginx: max_fails=0", to see what it is for`)

var idle = flag.Duration("idle", 0, "how long nothing is said on any connection before the deployment, to see whether a proxy cuts it")

// withoutPart returns a proxy's configuration as flag -without has it.
func withoutPart(t *testing.T, proxy, block string) string {
	t.Helper()
	if part, ok := strings.CutPrefix(*without, proxy+": "); ok {
		return substitute(t, block, part, "")
	}
	return block
}

const (
	behind  = 48 // clients that come through the proxy
	direct  = 12 // those that do not
	numbers = 6  // of items
)

// Behind each proxy as docs/proxies.md configures it both nodes are replaced, one after
// the other, while rows are written. No client is refused once, and all have the newest
// row.
//
// A client is told to come back within a second, and needs one attempt. How long that
// takes is the machine's business, and is measured: clients without a proxy come back
// at the same time.
func TestRollingDeployment(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	server := pgtest.Shared(t)
	for _, software := range []software{nginx, haproxy, caddy} {
		t.Run(software.name, func(t *testing.T) {
			t.Parallel()
			d := deploy(t, software, nsqd, server)
			d.leaveAlone(t)
			d.startWriting(t)
			for _, n := range d.nodes {
				d.replace(t, n)
			}
			d.stopWriting(t)
			testkit.Until(t, "every client has the newest row", func() bool { return d.allKnow(t) })
			d.judge(t)
		})
	}
}

// deployment is two nodes behind a proxy, and clients.
type deployment struct {
	software software
	nodes    [2]*node
	proxy    *proxy
	reader   *pgx.Conn
	behind   []*watcher
	direct   []*watcher

	writer sync.WaitGroup
	enough chan struct{}
	writes int // of the writer, until it has ended
	failed int // that the client has to repeat
}

func deploy(t *testing.T, s software, nsqd *nsqdtest.Daemon, server *pgtest.Server) *deployment {
	t.Helper()
	d := &deployment{software: s, enough: make(chan struct{})}
	database := server.NewDatabase(t, fmt.Sprintf("create table items (id text primary key, rev int); insert into items select id, 1 from generate_series(0, %d) id", numbers-1))
	d.reader = database.Connect(t)
	for i := range d.nodes {
		d.nodes[i] = startNode(t, nodeConfig{Name: fmt.Sprint(s.name, i), NSQ: nsqd.Addr, Database: database.URL(), DrainDelay: s.drain})
	}
	for _, n := range d.nodes {
		n.untilReady(t)
	}
	d.proxy = s.start(t, d.nodes)
	for i := range behind {
		d.behind = append(d.behind, d.proxy.watch(t, fmt.Sprint(i%numbers)))
	}
	for i := range direct {
		d.direct = append(d.direct, watchWithoutProxy(t, fmt.Sprint(i%numbers), d.nodes, i))
	}
	testkit.Until(t, "every client has a row", func() bool { return d.allKnow(t) })
	return d
}

// leaveAlone has nothing happen for as long as flag -idle says. No client loses its
// connection.
func (d *deployment) leaveAlone(t *testing.T) {
	t.Helper()
	time.Sleep(*idle)
	for i, w := range d.behind {
		if all, _ := w.figures(); len(all) != 1 {
			t.Errorf("client %d has connected %d times before the deployment: %q", i, len(all), all)
		}
	}
}

func (n *node) untilReady(t *testing.T) {
	t.Helper()
	testkit.Until(t, n.Name+" is ready", func() bool {
		_, err := n.get("/readyz")
		return err == nil
	})
}

// startWriting changes one item after the other, through the proxy.
func (d *deployment) startWriting(t *testing.T) {
	t.Helper()
	d.writer.Go(func() {
		for {
			select {
			case <-d.enough:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if _, err := d.proxy.ask(t, "POST", fmt.Sprint("/items/", d.writes%numbers)); err != nil {
				d.failed++ // the same again
				continue
			}
			d.writes++
		}
	})
	t.Cleanup(func() { d.stopWriting(t) }) // also where the test fails
}

func (d *deployment) stopWriting(t *testing.T) {
	t.Helper()
	select {
	case <-d.enough:
	default:
		close(d.enough)
	}
	d.writer.Wait()
}

// replace does what a deployment does: the node is told to end, and the next one begins
// at the same address. It is done when that is ready, and a proxy that asks has heard.
func (d *deployment) replace(t *testing.T, n *node) {
	t.Helper()
	n.end(t, syscall.SIGTERM)
	n.start(t)
	n.untilReady(t)
	if !d.software.probes {
		return
	}
	testkit.Until(t, "the proxy sends requests to "+n.Name, func() bool {
		name, err := d.proxy.get(t, "/name")
		return err == nil && name == n.Name
	})
}

// allKnow reports whether every client can rely on what it has, and has what is in the
// database.
func (d *deployment) allKnow(t *testing.T) bool {
	t.Helper()
	revs := make(map[string]int)
	rows, err := d.reader.Query(t.Context(), "select id, rev from items")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var id string
		var rev int
		if err := rows.Scan(&id, &rev); err != nil {
			t.Fatal(err)
		}
		revs[id] = rev
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, w := range append(d.behind, d.direct...) {
		if !w.knows(revs[w.item.Key().ID]) {
			return false
		}
	}
	return true
}

// bound is how long a client may be offline, on a machine that has nothing else to do.
const bound = 2 * time.Second

// judge looks at what the clients went through.
func (d *deployment) judge(t *testing.T) {
	t.Helper()
	attempts, refused := 0, 0
	var longest, yardstick time.Duration
	for i, w := range d.behind {
		all, offline := w.figures()
		attempts, longest = attempts+len(all), max(longest, offline)
		for _, answer := range all {
			if !strings.HasPrefix(answer, "HTTP/1.1 101 ") {
				refused++
				t.Errorf("an attempt of client %d was answered %q", i, answer)
			}
		}
		if len(all) < 2 { // both nodes were replaced
			t.Errorf("client %d has connected %d times, want at least twice", i, len(all))
		}
	}
	for _, w := range d.direct {
		_, offline := w.figures()
		yardstick = max(yardstick, offline)
	}
	t.Logf("%s: %d clients, offline for %.2f s at most, without a proxy %.2f s; %d of %d attempts refused; %d writes, %d repeated",
		d.software.name, len(d.behind), longest.Seconds(), yardstick.Seconds(), refused, attempts, d.writes, d.failed)
	// How slow the machine is, the clients without a proxy show. A node that a proxy has
	// shut out is missed for ten seconds.
	if most := bound + 5*yardstick; longest > most {
		t.Errorf("a client was offline for %v, want %v at most: %v, and five times the %v of one without a proxy", longest, most, bound, yardstick)
	}
}
