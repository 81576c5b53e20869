package faults

import (
	"slices"
	"time"

	"github.com/gorilla/websocket"
)

// askEvery is how often a v2 client asks its node whether it is there, with a ping.
const askEvery = 500 * time.Millisecond

// ask has the client ask until the function that it returns is called. The next ping
// waits for the answer to the one before. So the answers are a clock that stands still
// while the node gets no processor, and while the client does not get to read: neither
// says anything of what the node keeps from its clients.
func (s *session) ask(conn *websocket.Conn) (end func()) {
	answers, enough, ended := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	conn.SetPongHandler(func(string) error {
		select {
		case answers <- struct{}{}:
		default: // not asked for
		}
		return nil
	})
	go func() {
		defer close(ended)
		for {
			asked := time.Now()
			if conn.WriteControl(websocket.PingMessage, nil, asked.Add(patience)) != nil {
				return // the reader notices a connection that is gone
			}
			select {
			case <-answers:
			case <-enough:
				return
			}
			s.answered(asked)
			select {
			case <-time.After(time.Until(asked.Add(askEvery))):
			case <-enough:
				return
			}
		}
	}()
	return func() {
		close(enough)
		<-ended
	}
}

// answered says that a ping was answered, and when it was sent.
func (s *session) answered(asked time.Time) {
	s.checker.mu.Lock()
	defer s.checker.mu.Unlock()
	s.v2.answers = append(s.v2.answers, asked)
}

// between returns how much time node and client had from one moment to another, by the
// clock of the answers.
func (v *v2Session) between(from, to time.Time) time.Duration {
	first, _ := slices.BinarySearchFunc(v.answers, from, time.Time.Compare)
	last, _ := slices.BinarySearchFunc(v.answers, to, time.Time.Compare)
	return time.Duration(last-first) * askEvery
}

// since is between that moment and now.
func (v *v2Session) since(from time.Time) time.Duration { return v.between(from, time.Now()) }
