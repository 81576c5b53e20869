// Package broker runs a real nsqd as a process of its own.
package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/nsqio/nsq/nsqd"

	"github.com/entity-sync/entity-sync/bench/process"
)

const role = "nsqd"

// Roles are what process.Main needs to know.
func Roles() map[string]process.Role { return map[string]process.Role{role: be} }

// memQueueSize keeps nsqd from dropping what a subject is slow to read: whatever
// is published is heard, and counted.
const memQueueSize = 2_000_000

// config is what an nsqd is started with.
type config struct{ Data string }

// addresses is where it is reached.
type addresses struct{ TCP, HTTP string }

func be(told json.RawMessage) (any, process.Commands, error) {
	var c config
	if err := json.Unmarshal(told, &c); err != nil {
		return nil, nil, err
	}
	o := nsqd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.HTTPSAddress = "127.0.0.1:0", "127.0.0.1:0", ""
	o.BroadcastAddress = "127.0.0.1"
	o.DataPath, o.MemQueueSize = c.Data, memQueueSize
	o.Logger = log.New(io.Discard, "", 0)
	d, err := nsqd.New(o)
	if err != nil {
		return nil, nil, err
	}
	// Until the process ends. Exit, which nsqd's clients may keep waiting for ever, is
	// not called.
	go func() { _ = d.Main() }()
	return addresses{d.RealTCPAddr().String(), d.RealHTTPAddr().String()}, nil, nil
}

// NSQD is a running one.
type NSQD struct {
	Addr    string
	http    string
	data    string
	process *process.Process
}

// Start starts an nsqd on certain cores.
func Start(ctx context.Context, cores process.Cores) (*NSQD, error) {
	data, err := os.MkdirTemp("", "entity-sync-bench-nsqd-")
	if err != nil {
		return nil, err
	}
	var at addresses
	p, err := process.Start(ctx, role, config{data}, cores, &at)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(data))
	}
	return &NSQD{at.TCP, at.HTTP, data, p}, nil
}

// Close ends it.
func (d *NSQD) Close() error { return errors.Join(d.process.Close(), os.RemoveAll(d.data)) }

// Messages is how many messages it has taken for a topic since it started.
func (d *NSQD) Messages(ctx context.Context, topic string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.http+"/stats?format=json&topic="+topic, http.NoBody)
	if err != nil {
		return 0, err
	}
	r.Close = true
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var stats struct {
		Topics []struct {
			Count int `json:"message_count"`
		} `json:"topics"`
	}
	if err := json.NewDecoder(response.Body).Decode(&stats); err != nil {
		return 0, err
	}
	if len(stats.Topics) != 1 {
		return 0, fmt.Errorf("nsqd has %d topics named %s", len(stats.Topics), topic)
	}
	return stats.Topics[0].Count, nil
}
