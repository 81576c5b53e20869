// Package shared is the vocabulary of Entity Sync: entity types and keys, the
// client's message envelope, the shapes of the functions an application hands
// over, and the errors it may branch on. It imports nothing of Entity Sync.
package shared
