package shared

import "context"

// Fetcher reads the rows of one key as the holder of secret may see them, each
// row a JSON text, in the order the client is to get them. It is called from
// several goroutines at once, never twice at once for one view, and should
// return soon after ctx ends.
//
// ErrNotFound says the key has no row, ErrForbidden that this secret may not
// see it; any other error is retried while somebody watches. No rows and no
// error says nothing and sends nothing.
type Fetcher func(ctx context.Context, key EntityKey, secret string) ([][]byte, error)

// Request is one fetch of a batch.
type Request struct {
	Key    EntityKey
	Secret Secret
}

// Result is what one fetch of a batch came to. Rows and Err are as a Fetcher
// would return them (to es.RegisterBatch no rows and no error mean ErrNotFound);
// the rest is optional.
type Result struct {
	Rows [][]byte
	Err  error

	// Version says which content this is, in place of a hash of the rows: two
	// results of one key and secret with the same Version say the same.
	Version string

	// Revision says how new this is, where it is more than zero: a result with a
	// lower Revision than one that was already pushed comes from a read that lags,
	// such as of a replica; it is dropped, and fetched again shortly, until the same
	// lower Revision was read for half a minute. One with
	// ErrNotFound and a Revision says when the row went; without, the row may come
	// back with any Revision.
	Revision int64
}

// BatchFetcher answers several requests at once, in their order: different
// keys, or one key for different secrets. Otherwise it is as a Fetcher.
type BatchFetcher func(ctx context.Context, requests []Request) []Result

// Attempt is something that a client asks for, for the application to allow.
type Attempt struct {
	Action Action // ActionSubscribe
	Key    EntityKey
	Secret Secret
	Remote string // the client's address, host or host:port
}

// The function types of the classic interface, under the names its users know.
type (
	// ByteHandler takes one row, or one message from the bus.
	ByteHandler func([]byte)

	// EntityHandler builds the function that publishes to one entity type's queue.
	EntityHandler func(entity EntityType) ByteHandler

	// EntityKeyHandler takes a key: to subscribe to it or to leave it.
	EntityKeyHandler func(entityKey EntityKey)

	// SecretByteHandler takes a message that is the application's own, with the
	// secret of the client that sent it.
	SecretByteHandler func(secret string, b []byte)

	// EntityByteHandler listens to one entity type's queue and calls handler for
	// every message.
	EntityByteHandler func(entity EntityType, handler ByteHandler)

	// AddressableEntityHandler builds an EntityHandler for the queue at addr.
	AddressableEntityHandler func(addr string) EntityHandler

	// AddressableEntityByteHandler builds an EntityByteHandler for the queue at addr.
	AddressableEntityByteHandler func(addr string) EntityByteHandler

	// EntityKeySecretByteHandler fetches: it calls handler once for each row of
	// the key that the holder of secret may see, before it returns.
	EntityKeySecretByteHandler func(entityKey EntityKey, secret string, handler ByteHandler)

	// ByteSecretHandlingRemoteProxy connects one client: given where its rows go
	// and how to learn its secret, it returns how to subscribe, how to
	// unsubscribe, and a channel that takes one value when the client is gone.
	ByteSecretHandlingRemoteProxy func(ByteHandler, func() string) (sub EntityKeyHandler, unSub EntityKeyHandler, dc chan bool)
)
