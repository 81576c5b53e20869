package notify

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"
)

// load is announcements from several goroutines, each waiting until one was
// acknowledged before the next.
type load struct {
	Goroutines int
	Each       int  // keys a call
	Hot        bool // always the same key
	Duration   time.Duration
}

// announced is what came of a load.
type announced struct {
	Keys    int
	Elapsed time.Duration // until all were heard as well, but for a hot key, whose announcements are put together
}

func (l *load) run(s subject) (a announced, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.Duration+patience)
	defer cancel()
	before, begin := s.heard(), time.Now()
	keys, errs := make([]int, l.Goroutines), make([]error, l.Goroutines)
	var all sync.WaitGroup
	for g := range l.Goroutines {
		all.Go(func() { keys[g], errs[g] = l.announce(ctx, s, strconv.Itoa(g), begin.Add(l.Duration)) })
	}
	all.Wait()
	for _, n := range keys {
		a.Keys += n
	}
	if err := errors.Join(errs...); err != nil {
		return a, err
	}
	if !l.Hot {
		err = eventually(func() bool { return s.heard()-before >= a.Keys })
	}
	a.Elapsed = time.Since(begin)
	return a, err
}

// announce is one of the goroutines.
func (l *load) announce(ctx context.Context, s subject, name string, end time.Time) (announced int, err error) {
	ids := slices.Repeat([]string{"hot"}, l.Each)
	for time.Now().Before(end) {
		for i := range ids {
			if !l.Hot {
				ids[i] = name + "-" + strconv.Itoa(announced+i)
			}
		}
		if err := s.announce(ctx, ids); err != nil {
			return announced, err
		}
		announced += l.Each
	}
	return announced, nil
}

// lone is announcements one at a time, of a key that somebody watches, with nothing
// else going on.
type lone struct {
	Samples int
	Pause   time.Duration // between two
}

// delays are from the call.
type delays struct {
	Acknowledged spread // until it returned
	Heard        spread // until the key has come to where something is done about it
}

type spread struct{ Median, P99 time.Duration }

func (l *lone) run(s subject) (d delays, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(l.Samples)*l.Pause+patience)
	defer cancel()
	acknowledged, heard := make([]time.Duration, 0, l.Samples), make([]time.Duration, 0, l.Samples)
	for range l.Samples {
		time.Sleep(l.Pause)
		select {
		case <-s.arrived(): // the first look, which a node takes when it joins the bus
		default:
		}
		begin := time.Now()
		if err := s.announce(ctx, []string{loneID}); err != nil {
			return d, err
		}
		acknowledged = append(acknowledged, time.Since(begin))
		select {
		case at := <-s.arrived():
			heard = append(heard, at.Sub(begin))
		case <-ctx.Done():
			return d, ctx.Err()
		}
	}
	return delays{Acknowledged: spreadOf(acknowledged), Heard: spreadOf(heard)}, nil
}

func spreadOf(ds []time.Duration) spread {
	slices.Sort(ds)
	return spread{Median: ds[len(ds)/2], P99: ds[len(ds)*99/100]}
}
