package sendqueue

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/web/internal/socket"
)

// made is an Encoder whose frame was made before.
type made []byte

func (m made) Update(text) []byte  { return m }
func (made) Freshness(bool) []byte { return nil }

func (made) Gap(string, uint64) []byte { return nil }

// What a change of one key that many watch takes does not grow with them, but for
// the system calls.
func TestWritingToMoreClientsAllocatesNothing(t *testing.T) {
	const many = 100
	r := newRig(t)
	u := text(strings.Repeat("a row", 60))
	frame := []byte(u)
	var (
		queues  []*Queue[text]
		wires   []*wire
		slots   [many]slot
		got     sync.WaitGroup
		readers sync.WaitGroup
	)
	for range many {
		q, w, client := r.wired(t)
		q.encoder = made(frame)
		queues, wires = append(queues, q), append(wires, w)
		readers.Go(func() {
			b := make([]byte, len(frame))
			for {
				if _, err := io.ReadFull(client, b); err != nil {
					return
				}
				if !bytes.Equal(b, frame) {
					t.Error("what is read is not the frame")
				}
				got.Done()
			}
		})
	}
	perChange := func(n int) float64 {
		return testing.AllocsPerRun(100, func() {
			got.Add(n)
			for i, q := range queues[:n] {
				q.Push(&slots[i], u)
			}
			got.Wait()
		})
	}
	one, all := perChange(1), perChange(many)
	if all-one > 2 { // of many more recipients; the rest is noise of the runtime's own
		t.Errorf("writing allocates %v times for one client and %v times for %d", one, all, many)
	}
	for _, w := range wires {
		w.hangUp()
	}
	readers.Wait()
}

// However many send queues wait, and are added again while they do: each is written, by
// no more goroutines than there may be.
func TestFlusherAgainstManySendQueues(t *testing.T) {
	const clients, changes = 50, 200
	r := newRig(t)
	u := text(strings.Repeat("a row", 60))
	frame := []byte(u)
	var work sync.WaitGroup
	for range clients {
		q, w, client := r.wired(t)
		work.Go(func() {
			var slots [3]slot
			for i := range changes {
				q.Push(&slots[i%len(slots)], u)
			}
			q.End([]byte("bye"))
			q.Wait()
			w.hangUp()
		})
		work.Go(func() {
			b, err := io.ReadAll(client)
			if err != nil {
				t.Error(err)
			}
			n := 0
			for ; bytes.HasPrefix(b, frame); n++ {
				b = b[len(frame):]
			}
			if n < 1 || n > changes || string(b) != "bye" {
				t.Errorf("read the row %d times, and then % x", n, b)
			}
		})
	}
	work.Wait()
	r.work.Wait()
	r.Close()
	if f := r.flusher; f.first != nil || f.last != nil || f.busy != 0 || f.idle != 0 || f.waiting != 0 {
		t.Errorf("in the end it is %+v", f)
	}
}

// A client for which more has come whenever it is its turn keeps nobody waiting: no more
// than one turn's worth is written to it before what came for another.
func TestFlusherIsFair(t *testing.T) {
	r := newRig(t)
	r.flusher.most, r.flusher.busy = 1, 1 // it runs below, where nothing is left to chance
	const others, turns = 3 * flushed, 50

	var (
		busy, line, _ = r.wired(t)
		more          [2 * maxBatch]slot
		waits         [others]func() // has an update wait for one of the others, if none does
		written       int            // to the busy one
		begun         int            // turns of the busy one
	)
	come := func() {
		for i := range more {
			busy.Push(&more[i], "u")
		}
		for _, add := range waits {
			add()
		}
	}
	line.begins = func() {
		written += len(more) - busy.updates.Len()
		if begun++; begun < turns {
			come()
		}
	}
	for i := range others {
		q, w, _ := r.wired(t)
		var slot slot
		var since int
		w.begins = func() {
			if n := written - since; n > maxBatch {
				t.Errorf("client %d waits for %d updates of another", i, n)
			}
		}
		waits[i] = func() {
			if !q.writing {
				since = written
				q.Push(&slot, "u")
			}
		}
	}

	come()
	r.flusher.closed = true // it ends when nothing waits
	r.flusher.run()
	if begun < turns {
		t.Errorf("the busy client had %d turns, want %d", begun, turns)
	}
}

// Large rows do not wait for the flusher, nor does it wait for them: see startLocked.
func TestLargeRowsAreNotTheFlushers(t *testing.T) {
	r := newRig(t)
	r.flusher.most = 0 // it does nothing
	q, _, client := r.wired(t)
	u := text(strings.Repeat("u", socket.KernelBuffer+1))
	q.Push(new(slot), u)
	if err := client.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(u))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != string(u) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// Where Close ran out of time something may be written while the flusher is closed, and
// after that.
func TestAClosedFlusherWritesWhatIsAdded(t *testing.T) {
	const rounds, frames = 50, 100
	for range rounds {
		r := newRig(t)
		q, w, client := r.wired(t)
		var work sync.WaitGroup
		work.Go(func() {
			for range frames {
				q.Send([]byte("message"), MaxOrdered)
			}
			q.End(nil)
			q.Wait()
			w.hangUp()
		})
		work.Go(func() {
			for range frames {
				r.Close()
			}
		})
		if got, want := readAll(t, client), strings.Repeat("message", frames); got != want {
			t.Fatalf("read %q", got)
		}
		work.Wait()
		r.work.Wait()
		r.Close()
		if f := r.flusher; f.first != nil || f.busy != 0 || f.idle != 0 || f.waiting != 0 {
			t.Fatalf("in the end it is %+v", f)
		}
	}
}
