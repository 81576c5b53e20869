package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// sickness is what is wrong with the fetch handler of the type sick.
type sickness string

const (
	well     sickness = "well"
	hanging  sickness = "hanging"  // until its context ends
	panicky  sickness = "panicky"  // one time in ten, on average
	failing  sickness = "failing"  // with an error that shows the secret
	bloated  sickness = "bloated"  // returns far too much
	garbled  sickness = "garbled"  // returns what is no UTF-8
	slow     sickness = "slow"     // takes up to 50 ms, before and after it reads
	outdated sickness = "outdated" // every other time returns the row as it was some changes before
)

// doctor says what the handler suffers from.
type doctor struct {
	mu     sync.Mutex
	has    sickness
	bytes  int // of what is far too much
	random *rand.Rand
	past   map[shared.EntityKey][]row // the last states of each row, the newest last
}

// prescription sets what is wrong.
type prescription struct {
	Sickness sickness
	Seed     uint64
	Bytes    int // that it returns when it is bloated
}

func (d *doctor) prescribe(_ context.Context, p prescription) (struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.has, d.bytes, d.random = p.Sickness, p.Bytes, rand.New(rand.NewPCG(p.Seed, 0))
	d.past = make(map[shared.EntityKey][]row)
	return struct{}{}, nil
}

func (d *doctor) diagnose() sickness {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.has
}

func (d *doctor) tooMuch() []byte {
	d.mu.Lock()
	n := d.bytes
	d.mu.Unlock()
	return make([]byte, n)
}

func (d *doctor) throw(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.IntN(n)
}

// age returns the row as it was some changes before, every other time.
func (d *doctor) age(r row) row {
	d.mu.Lock()
	defer d.mu.Unlock()
	past := d.past[r.key()]
	if len(past) == 0 || past[len(past)-1].before(r) {
		past = append(past, r)
		past = past[max(0, len(past)-5):]
		d.past[r.key()] = past
	}
	if d.random.IntN(2) == 0 {
		old := past[d.random.IntN(len(past))]
		old.For = r.For
		return old
	}
	return r
}

// secretive is an error and a panic's value that shows what it must not.
type secretive struct{ secret string }

func (s secretive) Error() string { return fmt.Sprintf("no luck for the holder of %q", s.secret) }

// fetchSick may return what is no row at all.
func (p *application) fetchSick(ctx context.Context, key shared.EntityKey, secret string) (json.RawMessage, error) {
	switch p.doctor.diagnose() {
	case bloated:
		return p.doctor.tooMuch(), nil
	case garbled:
		return json.RawMessage("\"\xff\xfe\""), nil
	}
	r, err := p.fetchOrdered(ctx, key, secret)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func (p *application) fetchOrdered(ctx context.Context, key shared.EntityKey, secret string) (row, error) {
	request := shared.FetchRequest{Key: key, Secret: shared.NewSecret(secret)}
	p.begin(request)
	defer p.end(request)
	switch p.doctor.diagnose() {
	case hanging:
		<-ctx.Done()
		return row{}, ctx.Err()
	case panicky:
		if p.doctor.throw(10) == 0 {
			panic(secretive{secret})
		}
	case failing:
		return row{}, secretive{secret}
	case slow:
		time.Sleep(time.Duration(p.doctor.throw(50)) * time.Millisecond)
	}
	r, err := p.read(ctx, key, secret)
	if err != nil {
		return row{}, err
	}
	switch p.doctor.diagnose() {
	case slow:
		time.Sleep(time.Duration(p.doctor.throw(50)) * time.Millisecond)
	case outdated:
		r = p.doctor.age(r)
	}
	return r, nil
}
