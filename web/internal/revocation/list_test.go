package revocation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// What a node remembers of revocations is bounded, and what cannot be one is not remembered at
// all. Who was being let in while more came than are remembered has to come again.
func TestRevocationsAreRememberedWithinBounds(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("x", 1<<20), "close 4503 " + strings.Repeat("A", 1<<20) + " id", "close 4503 x id", "close 4503",
		strings.Replace(newRevocation(wire.CloseRevoked, canary.Mark).text(), "4503", "4501", 1),
		newRevocation(wire.CloseRevoked, canary.Mark).text() + strings.Repeat("x", maxIDBytes), newRevocation(wire.CloseRevoked, canary.Mark).text() + " -1",
		newRevocation(wire.CloseRevoked, canary.Mark).text() + " 1 1", newRevocation(wire.CloseRevoked, "").text(), newRevocation(wire.CloseRevoked, canary.Mark).text() + " 9223372036854775807",
	} {
		if _, err := parse(text); err == nil {
			t.Errorf("%.80q is taken for a revocation", text)
		}
	}
	o := NewList(Config{Clock: time.Now})
	now := time.Now()
	before := o.Now()
	for i := range maxKnown + maxKnown/2 {
		code := wire.CloseRevoked
		if i%2 == 0 {
			code = wire.CloseDisconnected
		}
		v := revocation{subject: subject{Digest{byte(i), byte(i >> 8)}, code}, id: fmt.Sprint(i)} // quickly made
		if o.hearLocked(v, now) {
			t.Fatal("there is something to do for a revocation about nobody")
		}
		o.giveLocked(v, now)
	}
	if len(o.known) != maxKnown || len(o.reaches) != maxKnown || len(o.ring) != maxKnown || len(o.recent) != maxKnown || len(o.pending) != 0 {
		t.Errorf("%d ids, %d subjects, %d in the ring, %d given, %d pending", len(o.known), len(o.reaches), len(o.ring), len(o.recent), len(o.pending))
	}
	d := DigestOf(shared.NewSecret(canary.Mark))
	if code := o.verdictLocked(d, before); code != wire.CloseDisconnected {
		t.Errorf("who has waited for so long is sent away with %d", code)
	}
	if code := o.verdictLocked(digestOfNone, before); code != 0 {
		t.Errorf("who has said no secret is sent away with %d", code)
	}
	if code := o.verdictLocked(d, o.Now()); code != 0 {
		t.Errorf("who comes now is sent away with %d", code)
	}
	recent := o.recent
	o.giveLocked(newRevocation(wire.CloseRevoked, "later"), now.Add(repeatFor))
	if len(o.recent) != 1 || len(recent) != maxKnown {
		t.Errorf("%d revocations are repeated after %v", len(o.recent), repeatFor)
	}
}

// Clients come, are let in at once or later, change their secrets and leave while orders
// are given, heard at once or later, heard twice and repeated: who began before an order was
// given is ended, and nobody else.
func TestRevocationsAtRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{now: time.Now(), given: make(map[string]time.Time)}
		m.list = NewList(Config{Clock: func() time.Time { return m.now }})
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for i, p := range m.people {
					if p.in && p.ended != p.doomed {
						t.Fatalf("client %d of %d is sent away: %v, want %v", i, len(m.people), p.ended, p.doomed)
					}
				}
			},
			"come": func(t *rapid.T) {
				p := new(person)
				m.begin(t, p)
				m.people = append(m.people, p)
			},
			"enter": func(t *rapid.T) {
				if p := m.pick(t); !p.in {
					p.in = true
					m.enlist(p)
				}
			},
			"change": func(t *rapid.T) {
				if p := m.pick(t); p.in && !p.ended {
					m.begin(t, p)
					m.enlist(p)
				}
			},
			"leave": func(t *rapid.T) {
				p := m.pick(t)
				m.list.Leave(&p.place)
				m.people = slices.DeleteFunc(m.people, func(o *person) bool { return o == p })
			},
			"revoke": func(t *rapid.T) {
				m.now = m.now.Add(time.Millisecond)
				code := rapid.SampledFrom([]int{wire.CloseRevoked, wire.CloseDisconnected}).Draw(t, "code")
				v := newRevocation(code, rapid.SampledFrom(secrets).Draw(t, "secret"))
				m.given[v.id] = m.now
				m.all = append(m.all, v)
				if rapid.Bool().Draw(t, "heard at once") {
					m.hear(v, m.given[v.id])
				}
			},
			"repeat": func(t *rapid.T) {
				if len(m.all) == 0 {
					t.Skip("none was given")
				}
				v := rapid.SampledFrom(m.all).Draw(t, "order")
				m.now = m.now.Add(time.Millisecond)
				now := m.now
				v.age = now.Sub(m.given[v.id]).Truncate(time.Microsecond)
				m.hear(v, now)
			},
			"wait": func(*rapid.T) { m.now = m.now.Add(time.Hour) },
		})
	})
}

var secrets = []string{canary.Mark + "a", canary.Mark + "b"}

// model is one node, and what should become of its clients.
type model struct {
	list   *List
	now    time.Time
	people []*person
	all    []revocation
	given  map[string]time.Time // when, by id
}

type person struct {
	place  Place
	digest Digest
	since  Moment
	from   time.Time // when the application was asked
	in     bool
	doomed bool // an order about it was given since then, and heard
	ended  bool // what came of it
}

func (m *model) pick(t *rapid.T) *person {
	if len(m.people) == 0 {
		t.Skip("nobody is there")
	}
	return rapid.SampledFrom(m.people).Draw(t, "who")
}

// begin has the application asked about a secret.
func (m *model) begin(t *rapid.T, p *person) {
	m.now = m.now.Add(time.Millisecond)
	secret := shared.NewSecret(rapid.SampledFrom(secrets).Draw(t, "secret"))
	p.digest, p.since = DigestOf(secret), m.list.Now()
	p.from, p.doomed = m.now, false
}

// Who implements Session.
func (p *person) Who() (Digest, Moment) { return p.digest, p.since }

// Revoke implements Session.
func (p *person) Revoke(int) { p.ended = true }

func (m *model) enlist(p *person) { p.ended = m.list.Enter(&p.place, p) != 0 }

func (m *model) hear(v revocation, now time.Time) {
	if _, again := m.list.known[v.id]; !again {
		for _, p := range m.people {
			if p.digest == v.digest && !p.from.After(m.given[v.id]) {
				p.doomed = true
			}
		}
	}
	m.list.hearLocked(v, now)
	due, _ := m.list.dueLocked(now.Add(time.Hour))
	for about, r := range due {
		m.list.end(about, r)
	}
}

// An order is read as it was written, and nothing else is one.
func FuzzParse(f *testing.F) {
	given := newRevocation(wire.CloseRevoked, canary.Mark)
	f.Add(given.text())
	given.age = 5*time.Second + time.Millisecond
	f.Add(given.text())
	f.Add("close 4410 x 99999999999999999999")
	f.Add("again")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parse(text)
		if err != nil {
			return
		}
		if again, err := parse(o.text()); err != nil || again != o {
			t.Fatalf("%q reads as %+v, which reads as %+v, %v", text, o, again, err)
		}
	})
}
