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

// Claims returns who the holder of a secret is, as settings that policies read with
// current_setting: {"app.viewer": "42", "app.tenant": "7"}. The names of settings have a dot.
// An error that is shared.ErrForbidden ends the client's subscription, and so does a value
// with NUL or invalid UTF-8. After any other error the fetch is tried again. Claims is called
// once for each secret of a fetch, from several goroutines; an error for one secret does not
// affect the others. It should return soon after ctx ends.
type Claims func(ctx context.Context, secret string) (map[string]string, error)

// Setting is Claims for policies that look the secret up themselves: the setting of that name
// has the secret as its value. An application can set no name without a dot: for such a name
// Setting returns nil, which Check refuses.
func Setting(name string) Claims {
	if !strings.Contains(name, ".") {
		return nil
	}
	return func(_ context.Context, secret string) (map[string]string, error) {
		return map[string]string{name: secret}, nil
	}
}

// AsViewer returns a Query whose rows row-level security decides on. Every fetch is a
// read-only transaction, in which alone the claims of the client's secret are set. A batch is
// read viewer by viewer.
//
// The statements must read a table with row-level security that applies to the pool's role;
// see Check. For policies an empty setting must mean the same as NULL: no viewer.
func (q *Query) AsViewer(claims Claims) *Query {
	d := q.definition
	d.asViewer, d.claims = true, claims
	return &Query{definition: d}
}

// WithoutViewer returns a Query that may read tables with row-level security although no
// policy is told who the client is: every client gets the rows that the policies show to the
// pool's role. Check otherwise refuses such a Query, because in most of them AsViewer was
// forgotten.
func (q *Query) WithoutViewer() *Query {
	d := q.definition
	d.asRole = true
	return &Query{definition: d}
}

// setting is one of a viewer's.
type setting struct{ name, value string }

const setSQL = "select set_config($1, $2, true)"

// viewers groups the requests by their viewers. It stores the result of each request that
// cannot be answered.
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

// claimsAtOnce is for how many secrets of a fetch the claims are asked for at once.
const claimsAtOnce = 8

// claims asks for the claims of each secret. A slow answer gets no more than half of the time
// that is left, so that time is left for the rows of the others.
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
			// The error stays if the function ends its goroutine.
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

// claimed is the claims of a secret, or the error of asking for them.
type claimed struct {
	settings []setting
	who      string // equal for equal settings
	err      error
}

func (q *Query) settings(ctx context.Context, secret shared.Secret) (settings []setting, err error) {
	defer func() {
		if r := recover(); r != nil { // the value is left out, because it may hold the secret
			settings, err = nil, fmt.Errorf("db: the claims function panicked: a value of type %T\n%s", r, debug.Stack())
		}
	}()
	claims, err := q.claims(ctx, secret.Reveal())
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		// A setting without a dot is one of PostgreSQL's own, such as role.
		if !strings.Contains(name, ".") {
			return nil, fmt.Errorf("db: the claim %q cannot be a setting of an application: its name has no dot", name)
		}
		// PostgreSQL would refuse such a value at each try, and no policy can know it: a
		// client has made it up.
		if v := claims[name]; !utf8.ValidString(v) || strings.Contains(v, "\x00") {
			return nil, fmt.Errorf("db: the claim %q is no text of PostgreSQL's: %w", name, shared.ErrForbidden)
		}
		settings = append(settings, setting{name, claims[name]})
	}
	return settings, nil
}
