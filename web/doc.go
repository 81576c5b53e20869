// Package web is the door for clients: the WebSocket upgrade, the sessions, what
// waits to be written to each, and the wires they speak.
//
// A session has one goroutine that reads, and a writer that is alive only while
// something waits to be written. What waits is at most one update for each key
// the client watches, so a slow client costs memory in proportion to what it
// subscribed to, and nobody else waits for it.
package web
