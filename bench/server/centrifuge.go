package server

import (
	"context"
	"net/http"

	"github.com/centrifugal/centrifuge"

	"github.com/entity-sync/entity-sync/bench/workload"
)

// centrifugeNode is a node with its broker in memory, a channel for each key and the
// JSON protocol.
type centrifugeNode struct {
	http.Handler
	table *workload.Table
	node  *centrifuge.Node
}

func newCentrifuge(c Config, t *workload.Table) (*centrifugeNode, error) {
	node, err := centrifuge.New(centrifuge.Config{ClientChannelLimit: c.MaxSubscriptions})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{ReadBufferSize: 1024, UseWriteBufferPool: true})
	return &centrifugeNode{handler, t, node}, nil
}

func (n *centrifugeNode) change(key int) error {
	_, err := n.node.Publish(workload.ID(key), n.table.Get(key).Append(nil))
	return err
}

func (n *centrifugeNode) watched() int { return n.node.Hub().NumSubscriptions() }
