package revocation

import (
	"errors"
	"log/slog"
	"time"

	"github.com/entity-sync/entity-sync/shared"
)

// given is a revocation of this node's own.
type given struct {
	revocation
	at time.Time
}

// repeatFor is how long a revocation is repeated to nodes that missed it.
const repeatFor = 10 * time.Minute

// giveLocked remembers a revocation of this node's own, to repeat it.
func (l *List) giveLocked(v revocation, now time.Time) {
	forget := 0
	for forget < len(l.recent) && (now.Sub(l.recent[forget].at) >= repeatFor || len(l.recent)-forget >= maxKnown) {
		forget++
	}
	l.recent = append(l.recent[forget:], given{v, now})
}

// repetition says what a node is to publish besides new revocations.
type repetition struct {
	ask  bool // ask for other nodes' revocations, because this node may have missed some
	tell bool // repeat this node's own recent ones, because another node may have missed some
}

func (r repetition) isNone() bool { return r == repetition{} }

func (r repetition) and(o repetition) repetition { return repetition{r.ask || o.ask, r.tell || o.tell} }

// repeatEvery bounds how often a node asks for revocations, and repeats its own, however often
// other nodes ask.
const repeatEvery = 500 * time.Millisecond

// again is the text of a node that may have missed revocations: the nodes that have given some
// lately repeat them.
const again = "again"

// want has a repetition published, by a goroutine that lives as long as there is one to
// publish. It is not the goroutine that applies revocations: the bus takes its time for each
// message, and there can be a hundred of them.
func (l *List) want(r repetition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.tell = r.tell && len(l.recent) > 0
	if l.wanted = l.wanted.and(r); !l.wanted.isNone() && !l.repeats {
		l.repeats = l.config.Start(l.repeat)
	}
}

// repeat publishes the wanted repetitions. After an error it tries again later.
func (l *List) repeat() {
	for {
		r, texts, wait := l.takeTexts()
		switch {
		case len(texts) > 0:
			if err := l.config.Publish(l.config.Leaving, texts...); err != nil {
				l.config.Logger.Debug("revocations were not repeated", slog.Any("error", err))
				if !errors.Is(err, shared.ErrClosed) {
					l.want(r)
				}
			}
		case wait == 0:
			return
		default:
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-l.config.Leaving.Done():
			}
			timer.Stop()
		}
		if l.config.Leaving.Err() != nil {
			return // all sessions end
		}
	}
}

// takeTexts returns the texts to publish now, or how long it is until there are any. If there
// are none to come, the goroutine that asked counts as ended.
func (l *List) takeTexts() (r repetition, texts []string, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r = l.wanted
	texts, wait = l.textsLocked(l.config.Clock())
	l.repeats = len(texts) > 0 || wait > 0
	return r, texts, wait
}

// textsLocked takes the texts to publish now, or returns how long it is until there are any; 0
// if there are none to come.
func (l *List) textsLocked(now time.Time) (texts []string, next time.Duration) {
	if l.wanted.isNone() {
		return nil, 0
	}
	if next = l.repeatAt.Sub(now); next > 0 {
		return nil, next
	}
	if l.wanted.ask {
		texts = append(texts, again)
	}
	if l.wanted.tell {
		for _, g := range l.recent {
			if age := now.Sub(g.at).Truncate(time.Microsecond); age < repeatFor {
				g.age = age
				texts = append(texts, g.text())
			}
		}
	}
	l.wanted, l.repeatAt = repetition{}, now.Add(repeatEvery)
	return texts, 0
}
