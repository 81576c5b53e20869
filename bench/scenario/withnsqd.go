package scenario

import (
	"context"
	"errors"

	"github.com/entity-sync/entity-sync/bench/broker"
	"github.com/entity-sync/entity-sync/bench/process"
	"github.com/entity-sync/entity-sync/bench/server"
)

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
	d, err := broker.Start(ctx, core)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	c.NSQAddr = d.Addr
	return s.onStage(ctx, c, f)
}
