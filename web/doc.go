// Package web is the door for clients: the WebSocket upgrade, the sessions, what
// waits to be written to each, and the wires they speak.
//
// A session has a goroutine that reads while its client says something; where it says
// nothing, on Linux and without TLS, one epoll waits for all such clients. What a socket
// takes at once is written by a few goroutines for all clients, the rest, and what goes
// over TLS, by a writer of the client's own, which is alive only while something waits.
// What waits is at most one update for each key the client watches, so a slow client
// costs memory in proportion to what it subscribed to, and nobody else waits for it.
package web
