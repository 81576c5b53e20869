// Package outbox announces what is written to PostgreSQL, with the transaction that writes
// it. The key is written to a table, the outbox, in the same transaction as the row: both
// are there or neither is. A Relay announces the key after the commit, whatever has become
// of the writer.
//
// EnsureSchema, or the SQL in Schema, makes the outbox. NotifyTx and NotifySQLTx write keys
// to it; Track has triggers write the keys of a table, for any program that writes it. Config
// starts a Relay: in es.Config.Outbox on a node, with Start without one.
//
// A key is announced at least once, and keys in any order. Any number of relays share the
// work. An error that wraps db.ErrBadPool is of a pool that can never work as it is
// configured.
package outbox
