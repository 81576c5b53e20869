// Package es sets Entity Sync up in one call.
//
// A client connects over WebSocket and subscribes to entity keys. After a write the
// application calls Notify with the key. Every node with a client that watches the key calls
// the application's fetch handler with that client's own secret, and pushes the rows that the
// handler returns.
//
// New, Register and Notify are the interface for new programs. Setup,
// RegisterEntityAndDBHandler and Bridge.NotifyAllOfChange are the classic interface, a thin
// layer on the same engine.
package es
