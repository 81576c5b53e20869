package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/nsqio/nsq/nsqd"
)

// memQueueSize keeps nsqd from dropping what a subject is slow to read: whatever
// is published is heard, and counted.
const memQueueSize = 2_000_000

// serveDaemon is the main of an nsqd, which says its addresses and ends with its
// standard input.
func serveDaemon(data string) error {
	o := nsqd.NewOptions()
	o.TCPAddress, o.HTTPAddress, o.HTTPSAddress = "127.0.0.1:0", "127.0.0.1:0", ""
	o.BroadcastAddress = "127.0.0.1"
	o.DataPath, o.MemQueueSize = data, memQueueSize
	o.Logger = log.New(io.Discard, "", 0)
	d, err := nsqd.New(o)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		d.Exit()
	}()
	fmt.Printf("%s,%s\n", d.RealTCPAddr(), d.RealHTTPAddr())
	return d.Main()
}

// broker is a running nsqd.
type broker struct {
	*child
	addr, httpAddr string
	data           string
}

func startBroker() (*broker, error) {
	data, err := os.MkdirTemp("", "nsqd")
	if err != nil {
		return nil, err
	}
	c, err := start(role{Subject: daemon, Data: data})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(data))
	}
	addr, httpAddr, _ := strings.Cut(c.first, ",")
	return &broker{child: c, addr: addr, httpAddr: httpAddr, data: data}, nil
}

func (b *broker) end() error {
	return errors.Join(b.child.end(), os.RemoveAll(b.data))
}

// messages is how many messages nsqd has taken for the topic since it started.
func (b *broker) messages(ctx context.Context) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.httpAddr+"/stats?format=json&topic="+topic, http.NoBody)
	if err != nil {
		return 0, err
	}
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
