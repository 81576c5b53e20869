// Package revocation ends, on all nodes, the sessions that go by a secret that the application
// has withdrawn.
//
// The locks are taken in this order: a List's, then a session's.
package revocation

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/entity-sync/entity-sync/shared"
	"github.com/entity-sync/entity-sync/web/wire"
)

// revocation tells all nodes to end the sessions that go by a secret. On the topic it is
//
//	close <code> <digest> <id>
//
// when it is given. When it is repeated, a fifth word says how many microseconds ago it was
// given. It has no time of day, because the clocks of two nodes differ.
type revocation struct {
	subject
	id  string
	age time.Duration // in whole microseconds, by the clock of the node that gave it
}

// subject is the secret whose sessions a revocation ends, by its digest, and the close code.
// The secret itself is not published.
type subject struct {
	digest Digest
	code   int
}

// Digest stands for a secret.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a secret.
func DigestOf(secret shared.Secret) Digest {
	return sha256.Sum256([]byte("entity-sync session\x00" + secret.Reveal()))
}

var digestOfNone = DigestOf(shared.NewSecret(""))

func newRevocation(code int, secret string) revocation {
	return revocation{subject: subject{DigestOf(shared.NewSecret(secret)), code}, id: rand.Text()}
}

const (
	// maxBytes bounds a text that can be a revocation.
	maxBytes = 128

	// maxIDBytes bounds the id by which a node remembers a revocation.
	maxIDBytes = 32
)

func (r revocation) text() string {
	text := fmt.Sprintf("close %d %s %s", r.code, base64.RawURLEncoding.EncodeToString(r.digest[:]), r.id)
	if r.age > 0 {
		text += fmt.Sprint(" ", r.age.Microseconds())
	}
	return text
}

var errBad = errors.New("not a revocation")

// parse reads a revocation. The revocation does not keep text alive.
func parse(text string) (r revocation, err error) {
	if len(text) > maxBytes {
		return r, errBad
	}
	words := strings.Split(text, " ")
	if len(words) < 4 || len(words) > 5 || words[0] != "close" || words[3] == "" || len(words[3]) > maxIDBytes {
		return r, errBad
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(words[2])
	if err != nil || len(sum) != len(r.digest) || Digest(sum) == digestOfNone { // about that, it would send everybody away who is only just coming in
		return r, errBad
	}
	r.digest, r.id = Digest(sum), strings.Clone(words[3])
	switch words[1] {
	case strconv.Itoa(wire.CloseDisconnected):
		r.code = wire.CloseDisconnected
	case strconv.Itoa(wire.CloseRevoked):
		r.code = wire.CloseRevoked
	default:
		return r, errBad
	}
	if len(words) == 5 {
		const bits = 40 // twelve days
		us, err := strconv.ParseUint(words[4], 10, bits)
		if err != nil {
			return r, errBad
		}
		r.age = time.Duration(us) * time.Microsecond //nolint:gosec // of 40 bits
	}
	return r, nil
}
