package bridge

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"sync/atomic"

	"github.com/entity-sync/entity-sync/internal/encoded"
	"github.com/entity-sync/entity-sync/shared"
)

// Kind says what an Update tells of its key.
type Kind uint8

const (
	// KindRows says that these are the key's rows now.
	KindRows Kind = iota
	// KindDeleted says that the key has no row any more.
	KindDeleted
	// KindCurrent says that the client's version is the newest.
	KindCurrent
	// KindForbidden says that the client may not see the key, and is unsubscribed from it.
	KindForbidden
)

// Update is the state of one view, built once and shared, read-only, by every
// client that gets it.
type Update struct {
	Key     shared.EntityKey
	Kind    Kind
	Version Version
	Rows    [][]byte

	revision int64 // how new it is, if more than zero
	bytes    int   // of Rows

	encodings encoded.Cache[Encoder]
	current   atomic.Pointer[Update] // says that this is what the client has; nil before a client is told
}

// Bytes is the size of the rows together.
func (u *Update) Bytes() int { return u.bytes }

// Encoder turns an update into what one kind of client reads. Encoders are compared, so an
// Encoder should be a pointer or an empty struct.
type Encoder interface {
	Encode(u *Update) []byte
}

// Encoded returns by.Encode(u), computed once for each encoder however many clients ask. The
// result is shared, and must not be changed.
func (u *Update) Encoded(by Encoder) []byte {
	return u.encodings.Get(by, func() []byte { return by.Encode(u) })
}

// confirmation returns the update that tells a client that it has this content already. The
// update is the same one for every client.
func (u *Update) confirmation() *Update {
	if c := u.current.Load(); c != nil {
		return c
	}
	u.current.CompareAndSwap(nil, &Update{Key: u.Key, Kind: KindCurrent, Version: u.Version})
	return u.current.Load()
}

// Version identifies the content of an update: two updates of one view with
// equal versions say the same. The zero Version belongs to no update.
type Version [16]byte

// String returns the version as 22 characters of base64url.
func (v Version) String() string {
	return base64.RawURLEncoding.EncodeToString(v[:])
}

// Append appends what String returns.
func (v Version) Append(b []byte) []byte {
	return base64.RawURLEncoding.AppendEncode(b, v[:])
}

// ParseVersion reads what String wrote.
func ParseVersion(s string) (v Version, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(v) || len(s) != base64.RawURLEncoding.EncodedLen(len(v)) { // it reads over line ends
		return Version{}, errors.New("a version is 22 characters of base64url")
	}
	return Version(b), nil
}

// newUpdate makes an update. Its version comes from the kind and the rows, or from the
// application's own name for the rows. Such a name means something for one scope only.
func newUpdate(key shared.EntityKey, kind Kind, s scope, r shared.FetchResult) *Update {
	u := &Update{Key: key, Kind: kind, revision: max(r.Revision, 0)}
	if kind == KindRows {
		u.Rows = r.Rows
	}
	for _, row := range u.Rows {
		u.bytes += len(row)
	}
	if r.Version == "" {
		u.Version = hash(kind, false, u.Rows...)
	} else {
		u.Version = hash(kind, true, []byte(s.value.Reveal()), []byte(r.Version))
	}
	return u
}

// hash takes each text with its length before it, so that no two lists of texts read the same.
// named sets the application's own names for rows apart from rows.
func hash(kind Kind, named bool, texts ...[]byte) (v Version) {
	h := sha256.New()
	tag := []byte{byte(kind), 0}
	if named {
		tag[1] = 1
	}
	h.Write(tag)
	var length [8]byte
	for _, text := range texts {
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		h.Write(length[:])
		h.Write(text)
	}
	var sum [sha256.Size]byte
	copy(v[:], h.Sum(sum[:0]))
	return v
}
