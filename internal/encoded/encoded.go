// Package encoded keeps what several encoders have made of one thing, so that each makes it once,
// however many clients there are to read it.
package encoded

import "sync"

// Cache holds what encoders of type E have made of one thing. Encoders are compared, so they are
// pointers or empty structs. The zero Cache is empty. It must not be copied.
type Cache[E comparable] struct {
	mu   sync.Mutex    // guards made; held while an encoder works, so that no other makes the same
	made []encoding[E] // one per wire in use, so one or two
}

type encoding[E comparable] struct {
	by    E
	bytes []byte
}

// Get returns what encode returns, which is called once for each encoder. The result is shared:
// read only.
func (c *Cache[E]) Get(by E, encode func() []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.made {
		if e.by == by {
			return e.bytes
		}
	}
	b := encode()
	c.made = append(c.made, encoding[E]{by, b})
	return b
}
