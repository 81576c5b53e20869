package es

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/bridge"
)

// Option says how an entity type is fetched. A number or a time of zero means the default. An
// option that has no effect on the registration is an error.
type Option func(*settings)

// settings is the outcome of the options of one registration.
type settings struct {
	bridge.EntityOptions

	// Functions of the fetch handler's result, whose type only the registration knows; nil if
	// not given.
	version, revision any

	pool *pgxpool.Pool // the pool that the fetch handler reads from, or nil

	err error // of the first option that got nil, or can have no effect
}

func settingsOf(opts []Option) (s settings, err error) {
	for i, opt := range opts {
		if opt == nil {
			return s, fmt.Errorf("option %d of %d is nil", i+1, len(opts))
		}
		opt(&s)
	}
	return s, s.err
}

// refuse notes an error if an option got nil.
func (s *settings) refuse(isNil bool, what string) {
	if isNil && s.err == nil {
		s.err = errors.New(what + " is nil")
	}
}

// refuseBatchSize returns an error if WithBatchSize was given although one key is fetched at a
// time.
func (s *settings) refuseBatchSize(remedy string) error {
	if s.BatchSize == 0 {
		return nil
	}
	return fmt.Errorf("WithBatchSize(%d) has no effect: one key is fetched at a time, unless it is registered with %s", s.BatchSize, remedy)
}

// refuseStamps returns an error if WithVersion or WithRevision was given.
func (s *settings) refuseStamps(why string) error {
	if s.version == nil && s.revision == nil {
		return nil
	}
	return errors.New("WithVersion and WithRevision are not for " + why)
}

// WithScope shares one fetch among the clients whose secrets have equal scopes, such as a
// tenant or a role. scope may map two secrets to the same value only if their holders see the
// same rows. A constant scope means that all clients see the same rows. Without WithScope each
// secret gets a fetch of its own.
//
// The scope of a secret may change: see bridge.EntityOptions. Whenever a key's rows are handed
// out, scope is called for each secret that watches the key.
func WithScope(scope func(secret string) string) Option {
	return func(s *settings) {
		s.refuse(scope == nil, "WithScope's function")
		s.Scope = scope
	}
}

// WithWorkers sets how many fetches of the entity type run at once on this node. The default
// is 32, or what the pool of WithPool or of a query allows if that is less. More than the pool
// allows is an error. Without a pool, Config.Bridge.MaxFetches bounds the fetches of all
// entity types together.
func WithWorkers(n int) Option {
	return func(s *settings) { s.Workers = n }
}

// WithTimeout sets how long a fetch may take. A later result is discarded, and the key is
// fetched again. The default is 10 s.
func WithTimeout(d time.Duration) Option {
	return func(s *settings) { s.Timeout = d }
}

// WithRetry sets how long to wait after a failed fetch: min at first, doubled up to max, with
// full jitter. Both at zero mean the default, 100 ms to 30 s. Only one at zero is an error.
func WithRetry(min, max time.Duration) Option {
	return func(s *settings) { s.Retry = bridge.Retry{Min: min, Max: max} }
}

// WithMaxBytes bounds the rows of one fetch together. More bytes are an error. The default is
// 1 MiB.
func WithMaxBytes(n int) Option {
	return func(s *settings) { s.MaxBytes = n }
}

// WithBatchSize bounds how many requests a handler given to RegisterBatch gets at once. The
// default is 10,000. It is also for RegisterQuery with db.Batch and db.BatchOf, and for
// nothing else.
func WithBatchSize(n int) Option {
	return func(s *settings) { s.BatchSize = n }
}

// WithResyncRate bounds how many fetches a second are made because notifications may have been
// missed, and so all watched keys must be fetched again. Without it such fetches have a quarter
// of the workers, and no other limit.
func WithResyncRate(perSecond int) Option {
	return func(s *settings) { s.ResyncRate = perSecond }
}

// WithRefresh fetches all watched keys again once a period, spread over the period, and sends
// the rows that differ. It is for writes that are never announced. Without it no key is
// fetched for no reason.
func WithRefresh(period time.Duration) Option {
	return func(s *settings) { s.Refresh = period }
}

// WithOnlyDifferences keeps unchanged rows from being sent again: when a key is announced as
// changed, its rows are fetched, and a client that was sent the same rows already gets
// nothing. It saves the push, not the fetch.
func WithOnlyDifferences() Option {
	return func(s *settings) { s.OnlyDifferences = true }
}

// WithRevision tells how new the fetch handler's result is, by a number that grows with every
// change of the key, such as a counter in the row or the time of its last write. Zero means
// not known.
//
// A lagging replica may answer with a result that is older than the one that was sent to
// clients that see the same rows. Such a result is dropped, and the key is fetched again
// shortly. A client that has nothing yet gets it all the same. A row that was deleted may come
// back with any revision, and so may one that is read with another secret.
//
// A revision that stays lower for half a minute, as after a backup was restored, is that of
// the row: it is sent, and the log says so. While the lower revision grows, the node waits for
// up to 5 minutes.
//
// The function takes what the handler returns: a T for Register, a []T for
// RegisterRows. A handler of RegisterBatch sets shared.FetchResult.Revision instead.
func WithRevision[V any](revision func(V) int64) Option {
	return func(s *settings) {
		s.refuse(revision == nil, "WithRevision's function")
		s.revision = revision
	}
}

// WithVersion tells which content the fetch handler's result has, in place of a hash of the
// rows: two results of one key and secret with the same version have the same content. It is
// for rows that hold something irrelevant, such as the time at which they were read. An empty
// version means the hash after all.
//
// The function takes the same argument as WithRevision's.
func WithVersion[V any](version func(V) string) Option {
	return func(s *settings) {
		s.refuse(version == nil, "WithVersion's function")
		s.version = version
	}
}

// stamp is the functions of WithVersion and WithRevision for results of type V.
type stamp[V any] struct {
	version  func(V) string
	revision func(V) int64
}

// stampOf returns an error if the functions take another type than V.
func stampOf[V any](s settings) (st stamp[V], err error) {
	var ok bool
	if s.version != nil {
		if st.version, ok = s.version.(func(V) string); !ok {
			return st, fmt.Errorf("WithVersion's function is a %T, want a %T: it takes what the fetch handler returns", s.version, st.version)
		}
	}
	if s.revision != nil {
		if st.revision, ok = s.revision.(func(V) int64); !ok {
			return st, fmt.Errorf("WithRevision's function is a %T, want a %T: it takes what the fetch handler returns", s.revision, st.revision)
		}
	}
	return st, nil
}

func (st stamp[V]) of(v V) (version string, revision int64) {
	if st.version != nil {
		version = st.version(v)
	}
	if st.revision != nil {
		revision = st.revision(v)
	}
	return version, revision
}
