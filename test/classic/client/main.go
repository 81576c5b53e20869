// Command client is a client as the first users of the classic system write it:
// it says who it is, subscribes, and prints what comes.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/url"

	"github.com/gorilla/websocket"

	"github.com/entity-sync/entity-sync/shared"
)

var addr = flag.String("addr", "localhost:8080", "http service address")
var secret = flag.String("secret", "", "who I am")
var messages = flag.Int("n", 3, "end after so many messages")

func main() {
	flag.Parse()

	u := url.URL{Scheme: "ws", Host: *addr, Path: "/ws/entity-sync/"}
	c, _, err := websocket.DefaultDialer.Dial(u.String(), nil)
	if err != nil {
		log.Fatal("could not dial: ", err)
	}
	defer c.Close()

	body, _ := json.Marshal(*secret)
	send(c, shared.Message{Action: shared.ActionSecret, Body: body})
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"mine":true}`)); err != nil {
		log.Fatal(err)
	}
	body, _ = json.Marshal(shared.EntityKey{Entity: "items", ID: "100"})
	send(c, shared.Message{Action: shared.ActionSubscribe, Body: body})

	for range *messages {
		_, b, err := c.ReadMessage()
		if err != nil {
			log.Fatal("could not read: ", err)
		}
		fmt.Println(string(b))
	}
}

func send(c *websocket.Conn, m shared.Message) {
	b, err := json.Marshal(m)
	if err != nil {
		log.Fatal(err)
	}
	if err := c.WriteMessage(websocket.TextMessage, b); err != nil {
		log.Fatal(err)
	}
}
