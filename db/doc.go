// Package db reads the rows of keys from PostgreSQL: with one statement for each key or for a
// batch of them, and, where row-level security decides who sees what, as the viewer that a
// secret stands for. Package outbox, below it, announces writes.
//
// DatabaseHub, the registry of fetch handlers, belongs to the classic interface.
package db
