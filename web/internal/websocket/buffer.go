package websocket

import (
	"bufio"
	"sync"
)

// readBuffer is the size of a read buffer. Clients' messages are short: a subscription or two
// fit. The rest of a longer message is read past the buffer. gorilla ignores a buffer of 256
// bytes or less.
const readBuffer = 288

// spareReaders have the buffers that connections read with. A parked connection has none, since
// most clients are idle most of the time. gorilla keeps the address of a connection's own
// reader, so that a reader is lent by a copy.
var spareReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

// takeBuffer gives the connection's reader a buffer, unless it has one.
func (c *Conn) takeBuffer() {
	if c.lent != nil {
		return
	}
	c.lent = spareReaders.Get().(*bufio.Reader) //nolint:forcetypeassert // nothing else is put there
	c.lent.Reset((*lower)(c))
	c.reader = *c.lent
}

// returnBuffer gives the buffer back, in which nothing is left to be read.
func (c *Conn) returnBuffer() {
	if c.lent == nil {
		return
	}
	c.reader = bufio.Reader{}
	c.lent.Reset(nil)
	spareReaders.Put(c.lent)
	c.lent = nil
}
