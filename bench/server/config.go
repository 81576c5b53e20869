// Package server is the process under measurement: one subject, which pushes the
// rows of a table to the clients that watch them. Each subject stands in a file of
// its own, and is what somebody who wants to be fair to it would write.
package server

import (
	"fmt"
	"net/http"
	"time"

	"github.com/entity-sync/entity-sync/bench/workload"
)

// Config is what a server is started with.
type Config struct {
	Subject Subject
	Layout  workload.Layout
	Further int // keys beyond those of the layout, which never change

	MaxSubscriptions int // of a client, where there is a limit; zero for the default

	// Announcers is how many changes are announced at once, as by the requests to a
	// web service. Zero means one after the other.
	Announcers int

	// The rest is for Entity Sync alone.
	NSQAddr   string        // empty for the bus within the process
	FetchTime time.Duration // how long the database takes
	Workers   int           // fetches at once; zero for the default
	Patience  time.Duration // with clients that neither read nor answer a ping; zero for the defaults
	Database  string        // URL of a PostgreSQL whose row for each viewer is pushed; empty for the table's row for all
}

// Subject is what is measured.
type Subject string

// The subjects.
const (
	Bare       Subject = "bare loop"
	Gorilla    Subject = "gorilla"
	Melody     Subject = "melody"
	Centrifuge Subject = "centrifuge"
	EntitySync Subject = "entity-sync"
	Classic    Subject = "entity-sync, classic wire"
	WithNSQ    Subject = "entity-sync, nsqd"
)

// pusher is a subject at work. It takes clients at the path /, until the process
// ends.
type pusher interface {
	http.Handler

	// change has the newest row of a key pushed to those who watch it.
	change(key int) error

	// watched is how many subscriptions there are, of clients that are connected.
	watched() int
}

func newPusher(c Config, t *workload.Table) (pusher, error) {
	switch c.Subject {
	case Bare:
		return newBare(c.Layout, t), nil
	case Gorilla:
		return newGorilla(t), nil
	case Melody:
		return newMelody(t), nil
	case Centrifuge:
		return newCentrifuge(c, t)
	case EntitySync, Classic, WithNSQ:
		if c.Database != "" {
			return newViewers(c, t)
		}
		return newEntitySync(c, t)
	default:
		return nil, fmt.Errorf("there is no subject %q", c.Subject)
	}
}
