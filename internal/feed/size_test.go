package feed

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/entity-sync/entity-sync/shared"
)

// docs/operating.md says how large a message nsqd must take, and package feed that several
// ids in the least room are no larger than the longest one.
func TestTheLargestMessageOfOneKey(t *testing.T) {
	size := func(ids ...string) int {
		note := messageOf(shared.EntityType(strings.Repeat("e", shared.MaxEntityTypeBytes)), ids)
		note.From, note.Seq, note.At = "7QWXW5XGBQYOYC7RKN7SRIYJNA", 1e18, 1e13-1
		body, err := note.encode()
		if err != nil {
			t.Fatal(err)
		}
		return len(body)
	}
	longest := size(strings.Repeat("x", shared.MaxIDBytes))
	if escaped := size(strings.Repeat(`"`, shared.MaxIDBytes)); longest > 425 || escaped > 680 {
		t.Errorf("%d and %d bytes for the longest ids", longest, escaped)
	}
	for length := 1; length < 100; length++ {
		ids := slices.Repeat([]string{strings.Repeat("x", length)}, 100)
		if got := size(ids[:fitting(ids, minRoom)]...); got > longest {
			t.Errorf("%d bytes for several ids of %d bytes, and %d for the longest one", got, length, longest)
		}
	}
}

// What is refused for one long id leaves room for many short ones.
func TestTheRoomIsNotThatOfParticularIDs(t *testing.T) {
	var r room
	r.narrow(sizeOf([]string{"x", strings.Repeat("x", shared.MaxIDBytes)}))
	if got := r.fit(slices.Repeat([]string{"x"}, 1000)); got < 60 {
		t.Errorf("a message has room for %d ids of one byte, want 60 at least", got)
	}
}

// A larger message is tried when some time has passed and there is something to put into
// it, once: where it is refused, after that time again.
func TestALargerMessageIsTriedAtTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := slices.Repeat([]string{"12345"}, 2000) // eight bytes each, in a message
		var r room
		all := r.fit(ids)
		r.narrow(1000)
		for range 3 {
			small := r.fit(ids)
			if small > 65 {
				t.Errorf("%d ids after those of 1,000 bytes were refused", small)
			}
			time.Sleep(roomAgain)
			if got := r.fit(ids[:small]); got != small {
				t.Errorf("%d ids of %d that fit", got, small)
			}
			larger := r.fit(ids)
			if again := r.fit(ids); larger < 2*small-1 || again != larger {
				t.Errorf("%d ids, then %d, where %d had room", larger, again, small)
			}
			r.narrow(sizeOf(ids[:larger]))
		}
		for range 10 { // nothing is refused any more
			time.Sleep(roomAgain)
			r.fit(ids)
		}
		if got := r.fit(ids); got != all || r.size != 0 {
			t.Errorf("%d ids in the end, want %d", got, all)
		}
	})
}

// Whatever ids a broker refuses that takes the longest one, there is room for as many as
// are no larger than that, and a message that follows is not refused.
func TestTheRoomSuitsTheBroker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(shared.MaxIDBytes+len(`"",`), maxMessageBytes).Draw(t, "limit")
		var r room
		for _, length := range rapid.SliceOfN(rapid.IntRange(1, shared.MaxIDBytes), 1, 200).Draw(t, "lengths") {
			ids := slices.Repeat([]string{strings.Repeat("x", length)}, 3000)
			n := r.fit(ids)
			for ; sizeOf(ids[:n]) > limit; n /= 2 {
				r.narrow(sizeOf(ids[:n]))
			}
			if n == 0 {
				t.Fatal("an id that the broker takes was refused")
			}
			if size := r.size; size != 0 && size < minRoom {
				t.Fatalf("room for %d bytes, at a broker that takes %d", size, limit)
			}
			if again := r.fit(ids); sizeOf(ids[:again]) > limit {
				t.Fatalf("%d bytes are tried once more, at a broker that takes %d", sizeOf(ids[:again]), limit)
			}
		}
	})
}
