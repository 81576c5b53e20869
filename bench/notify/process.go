package notify

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/entity-sync/entity-sync/bench/broker"
	"github.com/entity-sync/entity-sync/bench/process"
)

const subjectRole = "subject"

// Roles are what process.Main needs to know, beside those of package broker.
func Roles() map[string]process.Role { return map[string]process.Role{subjectRole: be} }

// config is what a subject is started with.
type config struct {
	Subject string // goNSQ, busAlone or node
	NSQD    string // its address
	Watched int    // keys that the node's own clients watch
}

// usage is what a subject has used and done since its start.
type usage struct {
	CPU   time.Duration
	Heard int // keys
}

func be(told json.RawMessage) (any, process.Commands, error) {
	var c config
	if err := json.Unmarshal(told, &c); err != nil {
		return nil, nil, err
	}
	s, err := newSubject(c)
	if err != nil {
		return nil, nil, err
	}
	return process.None{}, process.Commands{
		"usage": process.Command(func(process.None) (usage, error) {
			cpu, err := process.CPU()
			return usage{cpu, s.heard()}, err
		}),
		"load": process.Command(func(l load) (announced, error) { return l.run(s) }),
		"lone": process.Command(func(l lone) (delays, error) { return l.run(s) }),
	}, nil
}

// stage is a subject at work, with an nsqd.
type stage struct {
	ctx     context.Context
	nsqd    *broker.NSQD
	subject *process.Process
}

// onStage runs an nsqd and a subject of it for as long as f takes.
func onStage(ctx context.Context, c config, f func(*stage) error) (err error) {
	g := &stage{ctx: ctx}
	if g.nsqd, err = broker.Start(ctx, process.Cores{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.nsqd.Close()) }()
	c.NSQD = g.nsqd.Addr
	if g.subject, err = process.Start(ctx, subjectRole, c, process.Cores{}, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.subject.Close()) }()
	return f(g)
}

func (g *stage) usage() (u usage, err error) {
	err = g.subject.Ask(g.ctx, "usage", process.None{}, &u)
	return u, err
}
