package faults

import (
	"encoding/json"
	"strings"
	"sync"
	"time"
)

// yardstick is how long a piece of work takes that has nothing to do with any node: some
// milliseconds of a processor where there is nothing else to do, and as much longer as
// everything on the machine takes longer.
func yardstick() time.Duration {
	begin := time.Now()
	json.Valid(yard())
	return time.Since(begin)
}

// yard is what is looked through: of a size that takes so long.
var yard = sync.OnceValue(func() []byte {
	for items := 1000; ; items *= 2 {
		work := []byte("[" + strings.Repeat(`{"entity":"items","id":"100"},`, items) + "1]")
		begin := time.Now()
		if json.Valid(work); time.Since(begin) > 2*time.Millisecond {
			return work
		}
	}
})
