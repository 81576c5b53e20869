package sealed

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"sync"
)

// A sealed body is the original JSON object with one more member at its end:
//
//	{"entity":"items","id":"100","mac":"<64 hexadecimal digits>"}
//
// The digits are the HMAC-SHA256 of the original body, byte by byte, with a key that all
// nodes share. The seal is checked before any JSON is parsed.
const (
	before = `,"mac":"`
	after  = `"}`
	extra  = len(before) + 2*sha256.Size + len(after) - len(`}`)
)

var (
	errNoObject = errors.New("sealed: the message is no JSON object with a member")
	errNoSeal   = errors.New("the message has no mac at its end")
	errForged   = errors.New("the message's mac was made with none of the keys")
)

// key makes and checks seals.
type key struct{ states sync.Pool } // of *state

// state is the memory that computing one seal takes, for reuse.
type state struct {
	mac hash.Hash
	sum []byte
}

func newKey(secret []byte) *key {
	secret = bytes.Clone(secret)
	return &key{sync.Pool{New: func() any {
		return &state{mac: hmac.New(sha256.New, secret), sum: make([]byte, 0, sha256.Size)}
	}}}
}

// seal returns body with its seal.
func (k *key) seal(body []byte) ([]byte, error) {
	if len(body) <= len(`{}`) || body[0] != '{' || body[len(body)-1] != '}' {
		return nil, errNoObject
	}
	s := k.sum(body[:len(body)-1])
	defer k.states.Put(s)
	out := make([]byte, 0, len(body)+extra)
	out = append(out, body[:len(body)-1]...)
	out = append(out, before...)
	out = hex.AppendEncode(out, s.sum)
	return append(out, after...), nil
}

// sum returns the HMAC of the JSON object that consists of text and a closing brace.
func (k *key) sum(text []byte) *state {
	s := k.states.Get().(*state) //nolint:forcetypeassert // nothing else is in the pool
	s.mac.Reset()
	_, _ = s.mac.Write(text) // a hash's Write never fails
	_, _ = s.mac.Write(brace)
	s.sum = s.mac.Sum(s.sum[:0])
	return s
}

var brace = []byte{'}'}

// open returns the body that was sealed with one of the keys, without its last brace.
func open(sealed []byte, keys []*key) (body []byte, err error) {
	cut := len(sealed) - extra - len(`}`)
	if cut < len(`{`) {
		return nil, errNoSeal
	}
	body, seal := sealed[:cut], sealed[cut:]
	seal, found := bytes.CutPrefix(seal, []byte(before))
	digits, found2 := bytes.CutSuffix(seal, []byte(after))
	if !found || !found2 || body[0] != '{' {
		return nil, errNoSeal
	}
	var claimed [sha256.Size]byte
	if _, err := hex.Decode(claimed[:], digits); err != nil {
		return nil, errNoSeal
	}
	for _, k := range keys {
		s := k.sum(body)
		good := hmac.Equal(s.sum, claimed[:])
		k.states.Put(s)
		if good {
			return body, nil
		}
	}
	return nil, errForged
}
