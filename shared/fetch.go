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

// FetchRequest is one fetch of a batch.
type FetchRequest struct {
	Key    EntityKey
	Secret Secret
}

// FetchResult is what one fetch of a batch came to. Rows and Err are as a Fetcher
// would return them (to es.RegisterBatch no rows and no error mean ErrNotFound);
// the rest is optional.
type FetchResult struct {
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
type BatchFetcher func(ctx context.Context, requests []FetchRequest) []FetchResult

// AccessRequest is something that a client asks for, for the application to allow.
type AccessRequest struct {
	Action Action    // ActionSubscribe or ActionPublish
	Key    EntityKey // to subscribe to; without an Entity where it is a Topic
	Topic  Topic     // to subscribe or publish to
	Event  Event     // to publish
	Secret Secret
	Remote string // the client's address, host or host:port
}
