// Package web is the door for clients: who is connected, as whom, and with which limits. It
// acts on what clients ask for (request.go) on every wire that package wire reads, and
// hands what the engine pushes to each client's send queue.
//
// What carries messages is below web/internal, and knows no session: the send queue, the
// WebSocket transport, and sockets.
//
// Locks are taken in this order: the revocations', a session's or the Handler's, a send queue's.
package web
