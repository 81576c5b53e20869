package shared

import (
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

const (
	// MaxTopicBytes bounds a topic.
	MaxTopicBytes = 255

	// MaxTopicSegments bounds how deep a topic is, and so how many names are looked up
	// for each event.
	MaxTopicSegments = 16
)

// Everything is the topic whose subscribers hear every event. The application must allow each
// subscription to it. Nothing is published to it.
const Everything Topic = "*"

// Topic names what an event is about, from the general to the special: "news.uk.london". Its
// segments stand between dots. Who subscribes to a topic hears the topic and everything below
// it. Topics are opaque otherwise, and case sensitive.
type Topic string

// Validate returns an error wrapping ErrBadTopic unless events can be published to t: 1 to 16
// segments, 255 bytes of UTF-8 at most together, none of them empty or "*", without control
// characters.
func (t Topic) Validate() error {
	switch {
	case t == "":
		return fmt.Errorf("%w: it is empty", ErrBadTopic)
	case len(t) > MaxTopicBytes:
		return fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrBadTopic, len(t), MaxTopicBytes)
	case !utf8.ValidString(string(t)):
		return fmt.Errorf("%w: it is not UTF-8", ErrBadTopic)
	}
	for i := range len(t) {
		if c := t[i]; c < 0x20 || c == 0x7f {
			return fmt.Errorf("%w: it holds a control character at byte %d", ErrBadTopic, i)
		}
	}
	segments := 0
	for segment := range strings.SplitSeq(string(t), ".") {
		segments++
		switch segment {
		case "":
			return fmt.Errorf("%w: segment %d is empty", ErrBadTopic, segments)
		case "*":
			return fmt.Errorf("%w: segment %d is *, which is no pattern: a subscription hears everything below its topic", ErrBadTopic, segments)
		}
	}
	if segments > MaxTopicSegments {
		return fmt.Errorf("%w: it has %d segments, the limit is %d", ErrBadTopic, segments, MaxTopicSegments)
	}
	return nil
}

// ValidateSubscription is Validate for what a client subscribes to, which may be Everything.
func (t Topic) ValidateSubscription() error {
	if t == Everything {
		return nil
	}
	return t.Validate()
}

// Channel returns the first segment: what is registered, bounded and counted as a group.
func (t Topic) Channel() string {
	channel, _, _ := strings.Cut(string(t), ".")
	return channel
}

// Up yields the topic and those above it, the most special one first: of "news.uk.london"
// itself, "news.uk" and "news".
func (t Topic) Up() iter.Seq[Topic] {
	return func(yield func(Topic) bool) {
		for yield(t) {
			i := strings.LastIndexByte(string(t), '.')
			if i < 0 {
				return
			}
			t = t[:i]
		}
	}
}

// Covers reports whether who subscribes to t hears what is published to other.
func (t Topic) Covers(other Topic) bool {
	return t == Everything || t == other ||
		len(t) < len(other) && other[len(t)] == '.' && other[:len(t)] == t
}
