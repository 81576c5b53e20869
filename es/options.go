package es

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/entity-sync/entity-sync/bridge"
)

// Option says how an entity type is fetched. A number or a time of zero means the
// default. One that would have no effect where it is used is an error of the
// registration.
type Option func(*settings)

// settings is what the options of one registration come to.
type settings struct {
	bridge.EntityOptions

	// Functions of what the fetch handler returns, whose type only the
	// registration knows; nil without one.
	version, revision any

	pool *pgxpool.Pool // that the fetch handler reads from, or nil

	err error // of the first option that can have no effect
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

// refuse notes that an option got nil, where that is so.
func (s *settings) refuse(isNil bool, what string) {
	if isNil && s.err == nil {
		s.err = errors.New(what + " is nil")
	}
}

// refuseBatchSize returns an error if WithBatchSize was given, for what fetches one key
// at a time.
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

// WithScope shares one fetch among the clients whose secrets have equal scopes,
// such as a tenant or a role: scope must map two secrets to the same value only
// if their holders see the same rows. A function that returns a constant means
// that everybody does. Without it each secret gets a fetch of its own.
//
// What scope returns for a secret may change: see bridge.EntityOptions. It is called for
// each secret that watches a key whenever the key's rows are handed out.
func WithScope(scope func(secret string) string) Option {
	return func(s *settings) {
		s.refuse(scope == nil, "WithScope's function")
		s.Scope = scope
	}
}

// WithWorkers sets how many fetches of the entity type run at once on this node.
// The default is 32, or what the pool of WithPool or of a query allows if that is less.
// More than the pool allows is an error. Where there is no pool, Config.Bridge.MaxFetches
// bounds those of all entity types together.
func WithWorkers(n int) Option {
	return func(s *settings) { s.Workers = n }
}

// WithTimeout sets how long a fetch may take; a later result is discarded and
// fetched again. The default is 10 s.
func WithTimeout(d time.Duration) Option {
	return func(s *settings) { s.Timeout = d }
}

// WithRetry sets how long to wait after a failed fetch: min at first, doubled up
// to max, with full jitter. The default, which both at zero mean, is 100 ms to 30 s. One
// alone at zero is an error.
func WithRetry(min, max time.Duration) Option {
	return func(s *settings) { s.Retry = bridge.Retry{Min: min, Max: max} }
}

// WithMaxBytes bounds the rows of one fetch together; more is an error. The
// default is 1 MiB.
func WithMaxBytes(n int) Option {
	return func(s *settings) { s.MaxBytes = n }
}

// WithBatchSize bounds how many requests a handler given to RegisterBatch gets
// at once. The default is 10,000. It is for RegisterQuery with db.Batch and db.BatchOf,
// too, and for nothing else.
func WithBatchSize(n int) Option {
	return func(s *settings) { s.BatchSize = n }
}

// WithResyncRate bounds how many rows a second are fetched again when everything
// that is watched must be looked at, because notifications may have been missed.
// Without it such fetches have a quarter of the workers, and no other limit.
func WithResyncRate(perSecond int) Option {
	return func(s *settings) { s.ResyncRate = perSecond }
}

// WithRefresh fetches everything that is watched again once a period, spread over
// the period, and sends what differs: for writes that nobody announces. Without
// it nothing is fetched for no reason.
func WithRefresh(period time.Duration) Option {
	return func(s *settings) { s.Refresh = period }
}

// WithOnlyDifferences keeps rows that a client was sent already from being sent
// again when their key is announced as changed and they turn out to be the same. It
// saves the push, not the fetch.
func WithOnlyDifferences() Option {
	return func(s *settings) { s.OnlyDifferences = true }
}

// WithRevision says how new what the fetch handler returned is, by a number that
// grows with every change of the key, such as a counter in the row or the time of
// its last write. A read that is older than what was sent to those who see the
// same, as a lagging replica may answer it, is then dropped and fetched again
// shortly. A client that has nothing yet gets it all the same. Zero means not known.
// A row that was deleted may come back with any revision, and so may one that is
// looked at with another secret. A revision that stays lower for half a minute, as
// after a backup was restored, is that of the row: it is sent, and the log says so.
// While the lower revision grows it is waited for up to 5 minutes.
//
// The function takes what the handler returns: a T for Register, a []T for
// RegisterRows. A handler of RegisterBatch sets shared.FetchResult.Revision instead.
func WithRevision[V any](revision func(V) int64) Option {
	return func(s *settings) {
		s.refuse(revision == nil, "WithRevision's function")
		s.revision = revision
	}
}

// WithVersion says which content the fetch handler returned, in place of a hash
// of the rows: two results of one key and secret with the same version say the
// same. It is for rows that hold what does not matter, such as when they were
// read. An empty version means the hash after all.
//
// The function takes what WithRevision's takes.
func WithVersion[V any](version func(V) string) Option {
	return func(s *settings) {
		s.refuse(version == nil, "WithVersion's function")
		s.version = version
	}
}

// stamp is what WithVersion and WithRevision say of a V.
type stamp[V any] struct {
	version  func(V) string
	revision func(V) int64
}

// stampOf returns an error where the functions take something else than a V.
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
