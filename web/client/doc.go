// Package client keeps a Go program's copy of entities current: it subscribes to
// keys of an Entity Sync server, on the v2 wire, and comes back by itself whenever
// the connection is lost.
//
//	c, err := client.Dial(ctx, "wss://example.org/ws/entity-sync/", client.Options{Secret: token})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	for item, err := range client.Watch[Item](ctx, c, shared.EntityKey{Entity: "items", ID: "100"}) {
//		…
//	}
//
// [Watch] yields the state of a key, not a list of events. A slow reader sees the newest rows and
// misses those between, never goes back to older ones, and holds up no other reader. However
// many readers watch a key, the server is asked once.
//
// Rows stay when the connection is lost, and are marked [Stale] or [Offline] until the server
// has confirmed or replaced them. The client tells the server which version it has, so a
// reconnect without changes brings no rows.
//
// A topic carries events, of which each one counts: [Client.Topic] hears them, and
// [Client.Publish] publishes one. A caller that has missed events is told of a gap.
//
// A Client has three goroutines while it is connected, one while it tries to be, and
// one more while it asks for a new secret. Close waits for all of them.
package client
