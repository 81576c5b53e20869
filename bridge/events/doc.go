// Package events carries events from publishers to the clients that subscribe to their topics,
// on all nodes.
//
// # Terms
//
// A topic names what an event is about, from the general to the special. Its first segment is
// the channel: what the application registers, with its rule for who may subscribe and publish.
// A subscription hears its topic and everything below it, or its topic alone. The topic * hears
// everything.
//
// # What holds
//
// When Publish has returned nil, each client whose subscription was acknowledged before, and
// that stays connected, is handed the event once, in its publisher's order, or a gap for that
// subscription in its place. However many subscriptions of one client an event matches, the
// client is handed the event once, with their topics.
//
// An event that was missed is gone, unless its channel keeps some. What a client may make a node
// hold is bounded where the client's Sink holds it.
//
// Publishing looks up one name for each segment of the topic, whatever is subscribed to.
//
// # Locks
//
// Hub.starting, and by itself Hub.mu, which guards channels and subscriptions and is held while one
// event is handed to its clients; then a Sink's, and that of a Delivery's encodings. None is held
// across a call of the application or of the bus.
package events
