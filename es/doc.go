// Package es sets Entity Sync up in one call.
//
// A client connects over WebSocket and subscribes to entity keys. After a write
// the application calls Notify with the key. Every node that has a client
// watching the key calls the fetch handler that the application registered, with
// that client's own secret, and pushes the rows it returns.
//
// New, Register and Notify are the interface for new programs. Setup,
// RegisterEntityAndDBHandler and Bridge.NotifyAllOfChange are the classic one,
// a thin layer on the same.
package es
