package client_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/client"
)

// shop is a server with one item, whose price can be changed.
type shop struct {
	*es.EntitySync
	server *httptest.Server
	price  atomic.Int64
}

func openShop() *shop {
	node, err := es.New(es.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	s := &shop{EntitySync: node}
	s.price.Store(50)
	err = es.Register(node, "items", func(_ context.Context, key shared.EntityKey, secret string) (map[string]any, error) {
		if secret != "my-session-token" {
			return nil, shared.ErrForbidden
		}
		return map[string]any{"name": "apple", "price": s.price.Load()}, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws/entity-sync/", node)
	s.server = httptest.NewServer(mux)
	return s
}

func (s *shop) url() string { return s.server.URL + "/ws/entity-sync/" }

func (s *shop) setPrice(price int64) {
	s.price.Store(price)
	if err := s.Notify(context.Background(), shared.EntityKey{Entity: "items", ID: "100"}); err != nil {
		log.Fatal(err)
	}
}

func (s *shop) close() {
	s.Close(context.Background())
	s.server.Close()
}

// A row, and each change of it.
func ExampleWatch() {
	shop := openShop()
	defer shop.close()
	ctx := context.Background()

	type Item struct {
		Name  string
		Price int
	}
	c, err := client.Dial(ctx, shop.url(), client.Options{Secret: "my-session-token"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for item, err := range client.Watch[Item](ctx, c, shared.EntityKey{Entity: "items", ID: "100"}) {
		if err != nil {
			log.Fatal(err) // shared.ErrNotFound, shared.ErrForbidden, …
		}
		fmt.Println(item.Name, item.Price)
		if item.Price == 60 {
			break
		}
		shop.setPrice(60)
	}
	// Output:
	// apple 50
	// apple 60
}

// With its state: what is shown stays while the server is away, and is marked.
func ExampleSubscription_Updates() {
	shop := openShop()
	ctx := context.Background()

	c, err := client.Dial(ctx, shop.url(), client.Options{Secret: "my-session-token"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	sub := c.Subscribe(shared.EntityKey{Entity: "items", ID: "100"})
	defer sub.Close()
	for u := range sub.Updates(ctx) {
		switch u.State {
		case client.Live:
			fmt.Printf("live %s\n", u.Rows)
			go shop.close()
		case client.Offline:
			fmt.Printf("offline %s\n", u.Rows)
			return
		}
	}
	// Output:
	// live [{"name":"apple","price":50}]
	// offline [{"name":"apple","price":50}]
}

// Several keys in one loop, without a goroutine for each.
func ExampleSubscription_Latest() {
	shop := openShop()
	defer shop.close()
	ctx := context.Background()

	c, err := client.Dial(ctx, shop.url(), client.Options{Secret: "my-session-token"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	apple := c.Subscribe(shared.EntityKey{Entity: "items", ID: "100"})
	defer apple.Close()
	nothing := c.Subscribe(shared.EntityKey{Entity: "nothing", ID: "1"})
	defer nothing.Close()
	for {
		one, oneChanged := apple.Latest()
		two, twoChanged := nothing.Latest()
		if one.State == client.Live && two.State == client.Denied {
			fmt.Printf("%s, and %v\n", one.Rows, two.Err)
			return
		}
		select {
		case <-oneChanged:
		case <-twoChanged:
		case <-ctx.Done():
			return
		}
	}
	// Output: [{"name":"apple","price":50}], and unknown_entity: no such entity type
}

// Events of a topic, each one, and word of those that were missed.
func ExampleClient_Topic() {
	shop := openShop()
	defer shop.close()
	ctx := context.Background()
	if err := es.RegisterChannel(shop.EntitySync, "offers", es.Public(), es.ClientsPublish()); err != nil {
		log.Fatal(err)
	}

	c, err := client.Dial(ctx, shop.url(), client.Options{Secret: "my-session-token"})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	sub := c.Topic("offers", client.TopicOptions{})
	defer sub.Close()
	<-sub.Ready() // what is published from now on arrives
	if err := c.Publish(ctx, "offers.fruit", "apples at half price"); err != nil {
		log.Fatal(err)
	}
	for r := range sub.Events(ctx) {
		if r.Gap {
			fmt.Println("offers were missed")
			continue
		}
		fmt.Printf("%s: %s\n", r.Topic, r.Event.Data())
		break
	}
	if err := sub.Err(); err != nil {
		log.Fatal(err) // shared.ErrForbidden, shared.ErrUnknownTopic, …
	}
	// Output: offers.fruit: "apples at half price"
}
