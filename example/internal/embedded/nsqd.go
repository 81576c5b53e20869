// Package embedded runs a real nsqd inside a program, and ends it at any moment.
//
// By itself nsqd cannot: NSQD.Exit waits until every connection has ended, and closes
// only those that have said which protocol they speak. A client that reconnects while
// nsqd ends, or one that connects and says nothing, keeps Exit waiting for ever. So a
// listener of this package stands in front of nsqd, and ends all connections first.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nsqio/nsq/nsqd"
)

// NSQD is a running nsqd.
type NSQD struct {
	front  *front
	nsqd   *nsqd.NSQD
	ended  chan struct{} // closed when nsqd's Main has returned
	err    error         // what Main returned, once ended is closed
	exited chan struct{} // closed when all of nsqd has ended
}

// Start starts an nsqd with the options o, which must not be used again. Publishers and
// subscribers connect to o.TCPAddress; port 0 takes a free one.
func Start(o *nsqd.Options) (*NSQD, error) {
	front, err := listen(o.TCPAddress)
	if err != nil {
		return nil, err
	}
	o.TCPAddress = "127.0.0.1:0"
	o.BroadcastTCPPort = front.addr().Port
	n, err := load(o)
	if err != nil {
		_ = front.close(context.Background()) // it has no connection yet
		return nil, err
	}
	s := &NSQD{front: front, nsqd: n, ended: make(chan struct{}), exited: make(chan struct{})}
	go func() { // ends with nsqd: Stop waits for it
		defer close(s.ended)
		s.err = n.Main()
	}()
	if err := s.awaitMain(o.DataPath); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	front.forward(n.RealTCPAddr().String())
	return s, nil
}

// load returns an nsqd that knows the topics and channels of its folder, as the program nsqd
// does.
func load(o *nsqd.Options) (*nsqd.NSQD, error) {
	n, err := nsqd.New(o)
	if err != nil {
		return nil, err
	}
	// After an error Exit is not called: it would overwrite the file that could not be read.
	// Nothing of nsqd runs yet.
	return n, n.LoadMetadata()
}

const (
	startTimeout = 10 * time.Second // for a file to be written to a slow disk
	startPause   = time.Millisecond // between two looks for the file
	metadataFile = "nsqd.dat"       // as nsqd calls it
)

// awaitMain returns when Main has started all parts of nsqd, because an Exit before that races
// with Main. The last part is the one that takes notifications. awaitMain sends a notification
// that makes this part write the metadata file, and waits for the file.
func (n *NSQD) awaitMain(dir string) error {
	file := filepath.Join(dir, metadataFile)
	before, _ := os.Stat(file) // nil if there is none yet
	n.nsqd.Notify(nil, true)
	for end := time.Now().Add(startTimeout); time.Now().Before(end); time.Sleep(startPause) {
		if after, err := os.Stat(file); err == nil && (before == nil || !os.SameFile(before, after)) {
			n.nsqd.RLock()   // the writer of the file holds the lock until it is done
			n.nsqd.RUnlock() //nolint:staticcheck // an empty section waits for the holder
			return nil
		}
	}
	return fmt.Errorf("nsqd has not written %s within %v", file, startTimeout)
}

// Addr is the address (host:port) of the TCP protocol.
func (n *NSQD) Addr() string { return n.front.addr().String() }

// HTTPAddr is the address of the HTTP port, if there is one.
func (n *NSQD) HTTPAddr() string { return n.nsqd.RealHTTPAddr().String() }

// Ended is closed when nsqd no longer serves: after Stop, or when nsqd has failed. Stop must
// be called after a failure, too, and returns it.
func (n *NSQD) Ended() <-chan struct{} { return n.ended }

// Behind is nsqd's own address. Stop does not end connections to it, so a test can hold nsqd
// up with one.
func (n *NSQD) Behind() string { return n.nsqd.RealTCPAddr().String() }

// ErrStuck is returned by Stop if nsqd does not end.
var ErrStuck = errors.New("nsqd does not end")

const (
	// closeTimeout bounds how long nsqd may take to close its connections. It
	// takes a millisecond.
	closeTimeout = time.Second
	// exitTimeout bounds how long nsqd may take to write its metadata and end.
	exitTimeout = 3 * time.Second
)

// Stop ends nsqd, and returns when all of it has ended. It must be called once. After some
// four seconds it returns ErrStuck. The address is free then, too, but nsqd still has its
// folder.
func (n *NSQD) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	closing := n.front.close(ctx)
	go func() { // ends with nsqd
		defer close(n.exited)
		n.deleteEphemeral()
		n.nsqd.Exit()
		<-n.ended
	}()
	late := time.NewTimer(exitTimeout)
	defer late.Stop()
	select {
	case <-n.exited:
	case <-late.C:
		return errors.Join(fmt.Errorf("%w: waited for %v", ErrStuck, exitTimeout), closing)
	}
	if n.err != nil {
		return fmt.Errorf("nsqd ended badly: %w", n.err)
	}
	return nil
}

// deleteEphemeral deletes the ephemeral channels and topics. nsqd does so by itself when the
// last client leaves, but in goroutines that Exit does not wait for, and nsqd panics if one of
// them is late. If no client is left, those goroutines have nothing left to do when
// deleteEphemeral returns.
func (n *NSQD) deleteEphemeral() {
	for _, topic := range n.nsqd.GetStats("", "", false).Topics {
		t, err := n.nsqd.GetExistingTopic(topic.TopicName)
		if err != nil {
			continue // gone meanwhile
		}
		for _, channel := range topic.Channels {
			if isEphemeral(channel.ChannelName) {
				_ = t.DeleteExistingChannel(channel.ChannelName) // fails if it is gone meanwhile
			}
		}
		if isEphemeral(topic.TopicName) {
			_ = n.nsqd.DeleteExistingTopic(topic.TopicName) // fails if it is gone meanwhile
		}
	}
}

func isEphemeral(name string) bool { return strings.HasSuffix(name, "#ephemeral") }
