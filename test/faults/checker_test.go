package faults

import (
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/shared"
)

// The checker is what all other tests rest on: here it is fed what must not
// happen, and must complain of exactly that.
func TestTheCheckerFindsBreaches(t *testing.T) {
	one := row{Entity: items, ID: "1", For: "ann.0", Nonce: 1, Rev: 1}
	with := func(change func(*row)) row { r := one; change(&r); return r }
	older := with(func(r *row) { r.Rev = 0 })
	newer := with(func(r *row) { r.Rev = 2 })
	reborn := with(func(r *row) { r.Nonce, r.Rev = 2, 1 })
	foreign := with(func(r *row) { r.For = "bob.0" })
	private := with(func(r *row) { r.Owner = "bob" })
	next := with(func(r *row) { r.For = "ann.1" })
	elsewhere := with(func(r *row) { r.ID = "2" })

	for name, tt := range map[string]struct {
		tell func(*session)
		want string // empty for no breach
	}{
		"rows in order":              {func(s *session) { s.saw(one); s.saw(one); s.saw(newer); s.saw(reborn) }, ""},
		"a step back":                {func(s *session) { s.saw(one); s.saw(older) }, "INV2"},
		"a step back to a past life": {func(s *session) { s.saw(reborn); s.saw(newer) }, "INV2"},
		"a row fetched for another":  {func(s *session) { s.saw(foreign) }, "INV3"},
		"a row that is another's":    {func(s *session) { s.saw(private) }, "INV3"},
		"a key that is not watched":  {func(s *session) { s.saw(elsewhere) }, "INV3"},
		"the old secret's rows, until the new one's first": {func(s *session) {
			s.saw(one)
			s.become("ann.1")
			s.saw(one)
			s.saw(next)
			s.saw(next)
		}, ""},
		"the old secret's row after that": {func(s *session) { s.saw(one); s.become("ann.1"); s.saw(next); s.saw(one) }, "INV4"},
		"a step back with a new secret":   {func(s *session) { s.saw(newer); s.become("ann.1"); s.saw(next) }, "INV2"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecker()
			tt.tell(c.open(c.watch("ann", []shared.EntityKey{key(items, "1")}), "ann.0"))
			found := strings.Join(c.found(), "\n")
			if (tt.want == "") != (found == "") || !strings.Contains(found, tt.want) {
				t.Errorf("the checker found %q, want %q", found, tt.want)
			}
		})
	}
}

func TestTheCheckerFindsWhoIsBehind(t *testing.T) {
	k := key(items, "1")
	there := row{Entity: items, ID: "1", Nonce: 1, Rev: 2}
	truth := map[shared.EntityKey]row{k: there}
	seen, err := there.seenBy("ann.0")
	if err != nil {
		t.Fatal(err)
	}
	old, formers := seen, seen
	old.Rev = 1
	formers.For = "ann.-1"
	for name, tt := range map[string]struct {
		tell func(*session)
		want string
	}{
		"up to date":              {func(s *session) { s.saw(old); s.saw(seen) }, ""},
		"no row":                  {func(*session) {}, "nothing of items.1"},
		"an old row":              {func(s *session) { s.saw(old) }, "has life 1 revision 1"},
		"a row of the old secret": {func(s *session) { s.saw(seen); s.become("ann.1") }, "want one for ann.1"},
		"not connected":           {func(s *session) { s.saw(seen); s.close() }, "not connected"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecker()
			tt.tell(c.open(c.watch("ann", []shared.EntityKey{k}), "ann.0"))
			found := strings.Join(c.behind(truth), "\n")
			if (tt.want == "") != (found == "") || !strings.Contains(found, tt.want) {
				t.Errorf("behind: %q, want %q", found, tt.want)
			}
		})
	}
	t.Run("what may not be seen", func(t *testing.T) {
		c := newChecker()
		c.open(c.watch("ann", []shared.EntityKey{k}), "ann.0")
		hidden := there
		hidden.Owner = "bob"
		if found := c.behind(map[shared.EntityKey]row{k: hidden}); len(found) != 0 {
			t.Errorf("behind without a row that ann may not see: %q", found)
		}
	})
}

// What is looked for in the nodes' output is found there.
func TestTheLogIsSearched(t *testing.T) {
	for text, want := range map[string]string{
		"level=INFO msg=fine":                         "",
		"fetch failed: the fetch handler panicked: x": "",
		"WARNING: DATA RACE":                          "DATA RACE",
		"panic: runtime error":                        "panic:",
		"fatal error: all goroutines are asleep":      "fatal error:",
		"level=INFO secret=" + secretOf("ann.0"):      canary.Mark,
	} {
		found := strings.Join(searchLog(text), "\n")
		if (want == "") != (found == "") || !strings.Contains(found, want) {
			t.Errorf("in %q was found %q, want %q", text, found, want)
		}
	}
}
