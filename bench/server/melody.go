package server

import (
	"net/http"

	"github.com/olahol/melody"

	"github.com/entity-sync/entity-sync/bench/workload"
)

// melodyHub is melody with an index of who watches what: its own way to choose
// among the sessions, a filter, would ask every one of them at each change.
type melodyHub struct {
	table  *workload.Table
	melody *melody.Melody
	index  *index[*melody.Session]
}

func newMelody(t *workload.Table) *melodyHub {
	h := &melodyHub{table: t, melody: melody.New(), index: newIndex[*melody.Session]()}
	h.melody.HandleMessage(func(s *melody.Session, message []byte) {
		key, err := readSubscription(message)
		if err != nil {
			_ = s.Close()
			return
		}
		h.index.add(s, key)
	})
	h.melody.HandleDisconnect(h.index.remove)
	return h
}

func (h *melodyHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = h.melody.HandleRequest(w, r) // which has answered the request
}

func (h *melodyHub) change(key int) (err error) {
	message := h.table.Get(key).Append(nil)
	h.index.each(key, func(sessions []*melody.Session) {
		err = h.melody.BroadcastMultiple(message, sessions)
	})
	return err
}

func (h *melodyHub) watched() int { return h.index.len() }
