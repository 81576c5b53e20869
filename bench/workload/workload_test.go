package workload

import (
	"encoding/json"
	"testing"
)

func TestRow(t *testing.T) {
	rows := []Row{{}, {Key: 49_999, Revision: 12_345, At: 1_790_000_000_123_456_789, Viewer: 10_000}}
	message := []byte(`{"rows":[`)
	for _, r := range rows {
		b := r.Append(nil)
		if len(b) != RowBytes || !json.Valid(b) {
			t.Errorf("%d bytes, want %d of JSON: %s", len(b), RowBytes, b)
		}
		message = append(append(message, b...), ',')
	}
	for _, want := range rows {
		r, rest, ok, err := Next(message)
		if r != want || !ok || err != nil {
			t.Errorf("read %+v, %v, %v, want %+v", r, ok, err, want)
		}
		message = rest
	}
	if r, _, ok, err := Next(message); ok || err != nil {
		t.Errorf("read %+v, %v after the last", r, err)
	}
	if _, _, _, err := Next([]byte(`{"key":1,"at":2}`)); err == nil {
		t.Error("a row without a revision was read")
	}
}

func TestLayout(t *testing.T) {
	for _, l := range []Layout{OneKey(3), OwnKeys(3, 4), {Clients: 7, Each: 3, Keys: 5}} {
		watched := map[int]int{}
		for c := range l.Clients {
			for n := range l.Each {
				key := l.Key(c, n)
				watched[key]++
				if got, err := l.Slot(c, key); got != n || err != nil {
					t.Errorf("%+v: slot %d, %v, want %d", l, got, err, n)
				}
			}
		}
		if len(watched) != l.Keys {
			t.Errorf("%+v: %d keys are watched", l, len(watched))
		}
	}
	l := OwnKeys(3, 4)
	for _, key := range []int{-1, 3, 8, 12} {
		if _, err := l.Slot(1, key); err == nil {
			t.Errorf("client 1 watches key %d", key)
		}
	}
}
