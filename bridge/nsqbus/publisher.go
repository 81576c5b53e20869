package nsqbus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nsqio/go-nsq"
)

// maxUnacknowledged bounds the publications that were written to an nsqd and that it
// has not answered. Further callers wait, each until its own deadline at most.
const maxUnacknowledged = 1024

// publisher publishes to one nsqd over one connection, which it makes when it
// has something to publish. Publications are pipelined: nsqd answers in order.
type publisher struct {
	addr     string
	config   Config
	requests chan *publication
	ended    chan struct{} // closed when run has returned
}

// publication is one message on its way.
type publication struct {
	topic string
	body  []byte
	done  chan error // takes one value
}

var (
	errNotAcknowledged = errors.New("the connection ended before nsqd acknowledged")
	errForgotten       = errors.New("this nsqd was forgotten")
)

func newPublisher(addr string, c Config) *publisher {
	return &publisher{addr: addr, config: c, requests: make(chan *publication), ended: make(chan struct{})}
}

// publish returns once nsqd has acknowledged, the connection has failed, ctx has
// ended or the nsqd was forgotten. In the last three cases nsqd may have got the
// message all the same.
func (p *publisher) publish(ctx context.Context, topic string, body []byte) error {
	pub := &publication{topic: topic, body: body, done: make(chan error, 1)}
	select {
	case p.requests <- pub:
	case <-p.ended:
		return errForgotten
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-pub.done:
		return err
	case <-p.ended:
		return errForgotten
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run serves requests until ctx ends.
func (p *publisher) run(ctx context.Context) {
	defer close(p.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case pub := <-p.requests:
			cn, err := dial(ctx, p.addr, p.config)
			if err != nil {
				pub.done <- err
				continue
			}
			p.serve(ctx, cn, pub)
		}
	}
}

// serve publishes over cn until it fails or ctx ends.
func (p *publisher) serve(ctx context.Context, cn *conn, first *publication) {
	defer context.AfterFunc(ctx, func() { cn.Close() })()
	a := &acknowledger{
		conn:       cn,
		unanswered: make(chan *publication, maxUnacknowledged),
		heartbeats: make(chan struct{}, 1),
		ended:      make(chan struct{}),
	}
	go a.run()
	p.write(cn, a, first)
	cn.Close()
	<-a.ended
	for {
		select {
		case pub := <-a.unanswered:
			pub.done <- errNotAcknowledged
		default:
			return
		}
	}
}

// write takes requests until the connection fails.
func (p *publisher) write(cn *conn, a *acknowledger, pub *publication) {
	for {
		var cmd *nsq.Command
		if pub == nil {
			cmd = nsq.Nop()
		} else {
			select {
			case a.unanswered <- pub:
			case <-a.ended:
				pub.done <- errNotAcknowledged
				return
			}
			cmd = nsq.Publish(pub.topic, pub.body)
		}
		if err := cn.send(cmd); err != nil {
			return
		}
		select {
		case pub = <-p.requests:
		case <-a.heartbeats:
			pub = nil
		case <-a.ended:
			return
		}
	}
}

// acknowledger reads nsqd's answers and gives each to the publication it is for.
type acknowledger struct {
	conn       *conn
	unanswered chan *publication
	heartbeats chan struct{}
	ended      chan struct{}
}

func (a *acknowledger) run() {
	defer close(a.ended)
	for {
		kind, data, err := a.conn.frame()
		if err != nil {
			return
		}
		if kind == nsq.FrameTypeResponse && string(data) == heartbeat {
			select {
			case a.heartbeats <- struct{}{}:
			default: // an earlier heartbeat waits for its answer already
			}
			continue
		}
		var answer error
		switch kind {
		case nsq.FrameTypeResponse:
		case nsq.FrameTypeError:
			answer = nsqError(data)
		default:
			answer = fmt.Errorf("%w of type %d", errUnexpected, kind)
		}
		select {
		case pub := <-a.unanswered:
			pub.done <- answer
		default:
			return // nsqd answered a command that was not sent: the connection is of no use
		}
	}
}
