package echo_test

import (
	"testing"

	"github.com/entity-sync/entity-sync/internal/echo"
)

func TestReach(t *testing.T) {
	const nothing, live, lost = "", "live", "lost"
	var r echo.Reach[string]
	for i, step := range []struct {
		broker string
		now    echo.State
		want   string
	}{
		{"x", echo.Gone, nothing}, // it was never there
		{"x", echo.Live, live},
		{"x", echo.Live, nothing},
		{"y", echo.Live, live}, // what was published there was missed
		{"x", echo.Gone, nothing},
		{"x", echo.Live, live},
		{"x", echo.Silent, lost}, // what others publish there is missed
		{"x", echo.Silent, nothing},
		{"y", echo.Gone, nothing},
		{"y", echo.Live, nothing}, // still not all
		{"x", echo.Live, live},
		{"x", echo.Silent, lost},
		{"x", echo.Gone, live}, // nobody publishes there any more
		{"y", echo.Gone, lost},
		{"x", echo.Silent, nothing},
		{"x", echo.Gone, nothing},
	} {
		got := nothing
		switch isLive, isLost := r.Set(step.broker, step.now); {
		case isLive && isLost:
			t.Fatal("live and lost at once")
		case isLive:
			got = live
		case isLost:
			got = lost
		}
		if got != step.want || r.State(step.broker) != step.now {
			t.Errorf("step %d, %s becomes %d: %q, want %q; it is %d", i, step.broker, step.now, got, step.want, r.State(step.broker))
		}
	}
}
