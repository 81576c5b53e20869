package shared

import "context"

// Fetcher reads the rows of one key as the holder of secret may see them. Each row is a JSON
// text, and the client gets them in that order. A Fetcher is called from several goroutines at
// once, but never twice at once for one view, and should return soon after ctx ends.
//
// ErrNotFound says that the key has no row, ErrForbidden that this secret may not see the key.
// After any other error the fetch is tried again while a client watches. No rows and no error
// mean that nothing is sent.
type Fetcher func(ctx context.Context, key EntityKey, secret string) ([][]byte, error)

// FetchRequest is one fetch of a batch.
type FetchRequest struct {
	Key    EntityKey
	Secret Secret
}

// FetchResult is the result of one fetch of a batch. Rows and Err are what a Fetcher would
// return (but for es.RegisterBatch no rows and no error mean ErrNotFound). The other fields
// are optional.
type FetchResult struct {
	Rows [][]byte
	Err  error

	// Version says which content this is, in place of a hash of the rows: two results of one
	// key and secret with the same Version have the same content.
	Version string

	// Revision, if more than zero, says how new the content is. A result with a lower Revision
	// than one that was already pushed comes from a read that lags, such as of a replica. It
	// is dropped and fetched again shortly, unless the same lower Revision has been read for
	// half a minute. With ErrNotFound, Revision says when the row was deleted; without a
	// Revision, the row may come back with any.
	Revision int64
}

// BatchFetcher answers several requests at once, and returns the results in their order. The
// requests are of different keys, or of one key for different secrets. Otherwise it is as a
// Fetcher.
type BatchFetcher func(ctx context.Context, requests []FetchRequest) []FetchResult

// AccessRequest is a client's request, which the application is to allow or refuse, or is told
// of once it has been done.
type AccessRequest struct {
	Action Action    // ActionSubscribe, ActionUnsubscribe, which is not asked about, or ActionPublish
	Key    EntityKey // what the request is about; without an Entity where it is a Topic
	Topic  Topic     // what the request is about
	Event  Event     // to publish
	Secret Secret
	Remote string // the client's address, host or host:port
}
