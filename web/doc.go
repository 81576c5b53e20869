// Package web is the door for clients: the WebSocket upgrade, the sessions, what
// waits to be written to each, and the wires they speak.
//
// A session that nothing is said to or by has no goroutine, where the system allows
// that: it is parked until its client says something (see idlePoller), and what is
// written to it is written by a few goroutines for all (see flusher), or by a writer
// of its own while its socket takes no more. What waits is at most one update for
// each key the client watches, so a slow client costs memory in proportion to what it
// subscribed to, and nobody else waits for it.
package web
