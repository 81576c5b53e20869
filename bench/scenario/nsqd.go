package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	"github.com/nsqio/nsq/nsqd"

	"github.com/entity-sync/entity-sync/bench/process"
	"github.com/entity-sync/entity-sync/bench/server"
)

const nsqdRole = "nsqd"

// nsqdConfig is what an nsqd is started with.
type nsqdConfig struct{ Data string }

// beNSQD is the main function of an nsqd.
func beNSQD(config json.RawMessage) (any, process.Commands, error) {
	var c nsqdConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, nil, err
	}
	o := nsqd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.HTTPSAddress = "127.0.0.1:0", "127.0.0.1:0", ""
	o.BroadcastAddress, o.DataPath = "127.0.0.1", c.Data
	o.Logger = log.New(io.Discard, "", 0)
	d, err := nsqd.New(o)
	if err != nil {
		return nil, nil, err
	}
	go func() { _ = d.Main() }()
	return d.RealTCPAddr().String(), nil, nil
}

// onStageWithNSQ is onStage, with an nsqd where the subject needs one. It shares
// the core of the load.
func (s Suite) onStageWithNSQ(ctx context.Context, c server.Config, f func(*stage) error) (err error) {
	if c.Subject != server.WithNSQ {
		return s.onStage(ctx, c, f)
	}
	_, core, err := process.Apart()
	if err != nil {
		return err
	}
	data, err := os.MkdirTemp("", "entity-sync-bench-nsqd-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	d, err := process.Start(ctx, nsqdRole, nsqdConfig{data}, core, &c.NSQAddr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return s.onStage(ctx, c, f)
}
