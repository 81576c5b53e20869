package web

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

// order is what a node tells all nodes to do: to end the sessions that go by a secret.
// On the topic it is
//
//	close <code> <digest> <id>
//
// when it is given, and with how many microseconds ago that was as a fifth word when it
// is repeated. Clocks of the wall are in no order, because those of two nodes differ.
type order struct {
	subject
	id  string
	age time.Duration // in whole microseconds, by the clock of the node that gave it
}

// subject is whom an order is about, and how they are sent away. The secret itself is
// not told.
type subject struct {
	digest digest
	code   int
}

type digest [sha256.Size]byte

func digestOf(secret shared.Secret) digest {
	return sha256.Sum256([]byte("entity-sync session\x00" + secret.Reveal()))
}

var digestOfNone = digestOf(shared.NewSecret(""))

func newOrder(code int, secret string) order {
	return order{subject: subject{digestOf(shared.NewSecret(secret)), code}, id: rand.Text()}
}

const (
	// maxOrderBytes bounds a text that can be an order.
	maxOrderBytes = 128

	// maxOrderID bounds what a node remembers an order by.
	maxOrderID = 32
)

func (o order) text() string {
	text := fmt.Sprintf("close %d %s %s", o.code, base64.RawURLEncoding.EncodeToString(o.digest[:]), o.id)
	if o.age > 0 {
		text += fmt.Sprint(" ", o.age.Microseconds())
	}
	return text
}

var errNoOrder = errors.New("this is no order about sessions")

// parseOrder reads an order, of which nothing refers to text.
func parseOrder(text string) (o order, err error) {
	if len(text) > maxOrderBytes {
		return o, errNoOrder
	}
	words := strings.Split(text, " ")
	if len(words) < 4 || len(words) > 5 || words[0] != "close" || words[3] == "" || len(words[3]) > maxOrderID {
		return o, errNoOrder
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(words[2])
	if err != nil || len(sum) != len(o.digest) || digest(sum) == digestOfNone { // about that, it would send everybody away who is only just coming in
		return o, errNoOrder
	}
	o.digest, o.id = digest(sum), strings.Clone(words[3])
	switch words[1] {
	case strconv.Itoa(wire.CloseDisconnected):
		o.code = wire.CloseDisconnected
	case strconv.Itoa(wire.CloseRevoked):
		o.code = wire.CloseRevoked
	default:
		return o, errNoOrder
	}
	if len(words) == 5 {
		const bits = 40 // twelve days
		us, err := strconv.ParseUint(words[4], 10, bits)
		if err != nil {
			return o, errNoOrder
		}
		o.age = time.Duration(us) * time.Microsecond //nolint:gosec // of 40 bits
	}
	return o, nil
}
