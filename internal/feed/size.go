package feed

import (
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// room is how many bytes the ids of one message may take. A broker that refuses a message for
// its size ends the connection as well, so further messages are smaller at once. The zero
// value is for a broker that has refused none.
type room struct {
	size    int       // zero for maxMessageBytes
	refused time.Time // when a message was last refused, or a larger one tried
}

// minRoom is the room that every broker has if it takes the longest id: a message of several
// ids in so much room is no larger than a message of that id. When a single long id was
// refused, that says nothing of shorter ones.
const minRoom = shared.MaxIDBytes - len(`"ids":[]`)

// roomAgain is for how long after a refusal no larger message is tried. A trial that is
// refused costs a connection.
const roomAgain = 10 * time.Minute

// fit returns how many of the ids go into one message: one at least. After roomAgain it tries
// a larger message than was refused.
func (r *room) fit(ids []string) int {
	if r.size == 0 {
		return fitting(ids, maxMessageBytes)
	}
	n := fitting(ids, r.size)
	if n < len(ids) && time.Since(r.refused) >= roomAgain {
		r.refused = time.Now()
		if r.size *= 2; r.size >= maxMessageBytes {
			r.size = 0
		}
		return r.fit(ids)
	}
	return n
}

// narrow notes the size of several ids that were refused.
func (r *room) narrow(refused int) {
	size := refused / 2
	if refused > minRoom+len(`"",`) {
		size = max(size, minRoom)
	}
	if r.size == 0 || size < r.size {
		r.size = size
	}
	r.refused = time.Now()
}
