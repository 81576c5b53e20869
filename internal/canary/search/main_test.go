package main

import (
	"slices"
	"testing"

	"github.com/entity-sync/entity-sync/internal/canary"
)

func TestChoose(t *testing.T) {
	all := canary.Places()
	for _, c := range []struct {
		only, without string
		want          int // -1 for an error
	}{
		{"", "", len(all)}, {"node", "", 1}, {"node,nsq", "", 2}, {"", "node", len(all) - 1},
		{"node", "nsq", -1}, {"nod", "", -1}, {"", "nod", -1},
	} {
		got, err := choose(c.only, c.without)
		if (err != nil) != (c.want < 0) || err == nil && len(got) != c.want {
			t.Errorf("choose(%q, %q) returned %q, %v", c.only, c.without, got, err)
		}
		if err == nil && c.without != "" && slices.Contains(got, canary.Place(c.without)) {
			t.Errorf("%q is among %q", c.without, got)
		}
	}
}
