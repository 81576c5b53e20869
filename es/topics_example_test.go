package es_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/entity-sync/entity-sync/bridge/events"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
)

// registerChannels is called on each node.
func registerChannels(node *es.EntitySync) error {
	return errors.Join(
		// The application says these, and a page that was away for a moment gets the last ones.
		es.RegisterChannel(node, "toasts", es.Public(), es.Keep(20, time.Minute)),
		// Pages say these, and of each pointer only the newest place counts.
		es.RegisterChannel(node, "cursors", es.Public(), es.ClientsPublish(), es.Latest()),
	)
}

// toast shows a text on each page of a board.
func toast(ctx context.Context, node *es.EntitySync, board, text string) error {
	return node.Publish(ctx, shared.Topic("toasts."+board), map[string]string{"text": text})
}

func ExampleRegisterChannel() {
	node, err := es.New(es.Config{}) // with NSQAddr to join other nodes
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	defer node.Close(ctx)
	if err := registerChannels(node); err != nil {
		log.Fatal(err)
	}
	heard := make(chan events.Received)
	stop, err := node.Listen("toasts", func(r events.Received) { heard <- r })
	if err != nil {
		log.Fatal(err)
	}
	if err := toast(ctx, node, "board7", "saved"); err != nil {
		log.Fatal(err)
	}
	r := <-heard
	stop()
	fmt.Println(r.Topic, r.Event.Source(), string(r.Event.Data()))
	// Output: toasts.board7 /toasts/board7 {"text":"saved"}
}
