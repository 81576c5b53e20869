// Package web serves clients: it knows who is connected, as whom, and with which limits. It
// acts on clients' requests (request.go) on every wire that package wire reads, and hands the
// engine's updates to each client's send queue.
//
// The packages below web/internal carry the messages: the send queue, the WebSocket transport
// and sockets. They know no session.
//
// Locks are taken in this order: the revocations', a session's or the Handler's, a send
// queue's.
package web
