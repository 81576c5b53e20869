package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strconv"
	"time"

	"github.com/entity-sync/entity-sync/bench/process"
	"github.com/entity-sync/entity-sync/bench/workload"
)

// Hello is what a server says first.
type Hello struct {
	Addr    string // where it takes clients
	Changes string // where it takes changes: lines with a key each
}

// Stats are a server's figures.
type Stats struct {
	CPU         time.Duration // since its start
	Watched     int           // subscriptions
	Fetches     int           // since its start
	MostFetches int           // at once
}

// server is the process.
type server struct {
	config  Config
	table   *workload.Table
	pusher  pusher
	profile *os.File
}

// Role is the process's main function.
func Role(config json.RawMessage) (any, process.Commands, error) {
	var c Config
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, nil, err
	}
	s := &server{config: c, table: workload.NewTable(c.Layout.Keys + c.Further)}
	var err error
	if s.pusher, err = newPusher(c, s.table); err != nil {
		return nil, nil, err
	}
	clients, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	changes, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	go func() {
		err := (&http.Server{Handler: s.pusher, ReadHeaderTimeout: time.Minute}).Serve(clients)
		slog.Error("no client is taken any more", slog.Any("error", err))
	}()
	go s.takeChanges(changes)
	return Hello{clients.Addr().String(), changes.Addr().String()}, process.Commands{
		"stats":   process.Command(s.stats),
		"collect": process.Command(func(process.None) (process.Memory, error) { return process.Collect() }),
		"profile": process.Command(s.startProfile),
		"query":   process.Command(s.timeQuery),
	}, nil
}

func (s *server) stats(process.None) (Stats, error) {
	cpu, err := process.CPU()
	st := Stats{CPU: cpu, Watched: s.pusher.watched()}
	if f, ok := s.pusher.(interface{ counts() (all, most int) }); ok {
		st.Fetches, st.MostFetches = f.counts()
	}
	return st, err
}

// timeQuery returns how long the query of all viewers takes by itself.
func (s *server) timeQuery(process.None) (time.Duration, error) {
	v, ok := s.pusher.(*viewers)
	if !ok {
		return 0, errors.New("there is no query")
	}
	return v.timeQuery()
}

// startProfile writes where the processor time goes from now on to a file, and ends
// the file before. An empty name only ends it.
func (s *server) startProfile(name string) (process.None, error) {
	if s.profile != nil {
		pprof.StopCPUProfile()
		if err := s.profile.Close(); err != nil {
			return process.None{}, err
		}
		s.profile = nil
	}
	if name == "" {
		return process.None{}, nil
	}
	var err error
	if s.profile, err = os.Create(name); err != nil {
		return process.None{}, err
	}
	return process.None{}, pprof.StartCPUProfile(s.profile)
}

// takeChanges changes rows as the load asks for it: each line is a key.
func (s *server) takeChanges(from net.Listener) {
	conn, err := from.Accept()
	if err != nil {
		fail(err)
	}
	change := s.change
	if n := s.config.Announcers; n > 0 {
		keys := make(chan int, n)
		for range n {
			go func() {
				for key := range keys {
					s.announce(key)
				}
			}()
		}
		change = func(key int) {
			s.table.Change(key)
			keys <- key
		}
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return // the load has ended
		}
		key, err := strconv.Atoi(string(line[:len(line)-1]))
		if err != nil {
			fail(err)
		}
		change(key)
	}
}

func (s *server) change(key int) {
	s.table.Change(key)
	s.announce(key)
}

func (s *server) announce(key int) {
	if err := s.pusher.change(key); err != nil {
		fail(fmt.Errorf("change of key %d: %w", key, err))
	}
}

// fail ends the process: there is nothing to measure.
func fail(err error) {
	slog.Error("the server under test fails", slog.Any("error", err))
	os.Exit(1)
}
