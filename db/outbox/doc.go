// Package outbox announces writes to PostgreSQL reliably. The key is written to a table, the
// outbox, in the same transaction as the row: either both are committed or neither is. A Relay
// announces the key after the commit, even if the writer has died.
//
// EnsureSchema, or the SQL in Schema, makes the outbox. NotifyTx and NotifySQLTx write keys to
// it. Track makes triggers write the keys of a table, for any program that writes the table.
// Config starts a Relay: in es.Config.Outbox on a node, or with Start without a node.
//
// A key is announced at least once, and keys in any order. Any number of relays share the
// work. An error that wraps db.ErrBadPool says that the pool can never work as it is
// configured.
package outbox
