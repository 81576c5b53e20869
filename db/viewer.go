package db

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/shared"
)

// Claims says who the holder of a secret is, as settings that policies read with
// current_setting: {"app.viewer": "42", "app.tenant": "7"}. Their names hold a dot.
// An error that is shared.ErrForbidden ends the client's subscription, and so does a
// value with NUL or what is not UTF-8; any other error is tried again. It is called
// once for each secret of a fetch, from several goroutines, and what becomes of one
// secret is no matter of the others'. It should return soon after ctx ends.
type Claims func(ctx context.Context, secret string) (map[string]string, error)

// Setting is Claims for policies that look the secret up themselves: it is the
// value of the setting of that name. A name without a dot is none that an application
// can set: Setting then returns nil, which Check refuses.
func Setting(name string) Claims {
	if !strings.Contains(name, ".") {
		return nil
	}
	return func(_ context.Context, secret string) (map[string]string, error) {
		return map[string]string{name: secret}, nil
	}
}

// AsViewer returns a Query whose rows row-level security decides upon: every
// fetch is a read-only transaction in which the claims of the client's secret are
// set, and no longer. A batch is read viewer by viewer.
//
// The statements must read a table with row-level security that applies to the
// pool's role; see Check. Policies must take an empty setting for nobody's, as
// well as one that is NULL.
func (q *Query) AsViewer(claims Claims) *Query {
	d := q.definition
	d.asViewer, d.claims = true, claims
	return &Query{definition: d}
}

// WithoutViewer returns a Query that may read tables with row-level security although
// no policy is told who the client is: every client gets the rows that the policies
// show to the pool's role. Without it Check refuses such a Query, which is mostly one
// that AsViewer was forgotten for.
func (q *Query) WithoutViewer() *Query {
	d := q.definition
	d.asRole = true
	return &Query{definition: d}
}

// setting is one of a viewer's.
type setting struct{ name, value string }

const setSQL = "select set_config($1, $2, true)"

// viewers groups the requests by who they are for. Those that cannot be answered
// get their results.
func (f *fetch) viewers(ctx context.Context) []viewer {
	if !f.query.asViewer {
		all := make([]int, len(f.requests))
		for i := range all {
			all[i] = i
		}
		return []viewer{{requests: all}}
	}
	var viewers []viewer
	bySettings := make(map[string]int)
	bySecret := f.claims(ctx)
	for i, r := range f.requests {
		c := bySecret[r.Secret]
		if c.err != nil {
			f.results[i].Err = c.err
			continue
		}
		n, known := bySettings[c.who]
		if !known {
			n = len(viewers)
			bySettings[c.who] = n
			viewers = append(viewers, viewer{settings: c.settings})
		}
		viewers[n].requests = append(viewers[n].requests, i)
	}
	return viewers
}

// claimsAtOnce is for how many secrets of a fetch the claims are asked at once.
const claimsAtOnce = 8

// claims asks for the claims of each secret. One that is slow has half of the time
// that is left at most, so that there is some for the others' rows.
func (f *fetch) claims(ctx context.Context) map[shared.Secret]*claimed {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	bySecret := make(map[shared.Secret]*claimed)
	var secrets []shared.Secret
	for _, r := range f.requests {
		if bySecret[r.Secret] == nil {
			// Unless it is replaced, the function has ended its goroutine.
			bySecret[r.Secret] = &claimed{err: errors.New("db: the claims were not given")}
			secrets = append(secrets, r.Secret)
		}
	}
	var asking sync.WaitGroup
	places := make(chan struct{}, claimsAtOnce)
	for _, secret := range secrets {
		c := bySecret[secret]
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			c.settings, c.err = f.query.settings(ctx, secret)
			c.who = fmt.Sprintf("%q", c.settings)
		})
	}
	asking.Wait()
	return bySecret
}

// claimed is what came of asking for a secret's claims.
type claimed struct {
	settings []setting
	who      string // the same for the same settings
	err      error
}

func (q *Query) settings(ctx context.Context, secret shared.Secret) (settings []setting, err error) {
	defer func() {
		if r := recover(); r != nil { // not with its value, which may hold the secret
			settings, err = nil, fmt.Errorf("db: the claims function panicked: a value of type %T\n%s", r, debug.Stack())
		}
	}()
	claims, err := q.claims(ctx, secret.Reveal())
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		// Without a dot it is one of PostgreSQL's own, such as role.
		if !strings.Contains(name, ".") {
			return nil, fmt.Errorf("db: the claim %q cannot be a setting of an application: its name has no dot", name)
		}
		// No policy can know it: it is not for PostgreSQL to fail for ever on what a
		// client has made up.
		if v := claims[name]; !utf8.ValidString(v) || strings.Contains(v, "\x00") {
			return nil, fmt.Errorf("db: the claim %q is no text of PostgreSQL's: %w", name, shared.ErrForbidden)
		}
		settings = append(settings, setting{name, claims[name]})
	}
	return settings, nil
}
