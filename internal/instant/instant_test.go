package instant

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Instants compare as the times that they are of, and come back as those.
func TestAnInstantIsItsTime(t *testing.T) {
	begin := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) time.Time {
			return begin.Add(time.Duration(rapid.Int64Range(0, int64(100*365*24*time.Hour)).Draw(t, name)))
		}
		a, b := draw("a"), draw("b")
		i, j := Of(a), Of(b)
		if i.Before(j) != a.Before(b) || i.After(j) != a.After(b) || i.Sub(j) != a.Sub(b) {
			t.Errorf("%v and %v are %d and %d", a, b, i, j)
		}
		if back := i.Time(); back.Sub(a) != 0 {
			t.Errorf("%v comes back as %v", a, back)
		}
		if i.IsZero() {
			t.Errorf("%v is none", a)
		}
		if later := i.Add(b.Sub(a)); later != j {
			t.Errorf("%v later is %d, want %d", b.Sub(a), later, j)
		}
	})
}

func TestNowGoesByTheClockOfTests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, at := Now(), time.Now()
		time.Sleep(time.Hour)
		if d := Now().Sub(begin); d != time.Hour {
			t.Errorf("an hour takes %v", d)
		}
		if d := begin.Time().Sub(at); d != 0 {
			t.Errorf("the time is off by %v", d)
		}
	})
}
