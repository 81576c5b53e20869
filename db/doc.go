// Package db reads the rows of keys from PostgreSQL: with one statement for each key or
// for a batch of them, and as the viewer that a secret stands for, where row-level security
// decides who sees what. Package outbox, below it, announces writes.
//
// DatabaseHub, the registry of fetch handlers, is of the classic interface.
package db
