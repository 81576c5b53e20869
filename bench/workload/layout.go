// Package workload is what the server under test and the load agree on: which
// client watches which keys, what a row looks like, and how a change is asked for.
package workload

import (
	"fmt"
	"strconv"
)

// Entity is the entity type of all keys.
const Entity = "items"

// Layout says which client watches which keys. Keys are numbers from 0 on. Client c
// watches Each keys in a row, from c × Each on, and after the last key comes the
// first again.
type Layout struct {
	Clients, Each, Keys int
}

// OneKey has everybody watch the same key.
func OneKey(clients int) Layout { return Layout{clients, 1, 1} }

// OwnKeys gives each client so many keys that nobody else watches.
func OwnKeys(clients, each int) Layout { return Layout{clients, each, clients * each} }

// Key is the n-th key of a client.
func (l Layout) Key(client, n int) int { return (client*l.Each + n) % l.Keys }

// Slot is the n for which Key(client, n) is the key, or an error.
func (l Layout) Slot(client, key int) (int, error) {
	n := ((key-client*l.Each)%l.Keys + l.Keys) % l.Keys
	if key < 0 || key >= l.Keys || n >= l.Each {
		return 0, fmt.Errorf("client %d does not watch key %d", client, key)
	}
	return n, nil
}

// Subscriptions is how many there are of all clients together.
func (l Layout) Subscriptions() int { return l.Clients * l.Each }

// ID is what a key is called on the wire.
func ID(key int) string { return strconv.Itoa(key) }

// KeyOf is the key of an ID.
func KeyOf(id string) (int, error) { return strconv.Atoi(id) }

const secretPrefix = "viewer-"

// Secret is what a client says who has one of its own.
func Secret(client int) string { return secretPrefix + strconv.Itoa(client) }
