package shared_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/entity-sync/entity-sync/shared"
)

func TestTopics(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", shared.MaxTopicBytes)
	deepest := strings.Repeat("a.", shared.MaxTopicSegments-1) + "a"
	for _, topic := range []string{"news", "news.uk.london", "a b/c:d", "ü.😀", "News", "a*", longest, deepest} {
		if err := shared.Topic(topic).Validate(); err != nil {
			t.Errorf("%.30q: %v", topic, err)
		}
	}
	for _, topic := range []string{"", ".", "a.", ".a", "a..b", "*", "news.*", "*.uk", "a\x00", "a\n", "a\x7f", "\xff", longest + "x", deepest + ".a"} {
		if err := shared.Topic(topic).Validate(); !errors.Is(err, shared.ErrBadTopic) {
			t.Errorf("%.30q: %v, want ErrBadTopic", topic, err)
		}
		if err := shared.Topic(topic).ValidateSubscription(); (err == nil) != (topic == "*") {
			t.Errorf("%.30q to subscribe to: %v", topic, err)
		}
	}
}

func TestWhatIsAboveATopic(t *testing.T) {
	t.Parallel()
	london := shared.Topic("news.uk.london")
	if got, want := slices.Collect(london.Up()), []shared.Topic{"news.uk.london", "news.uk", "news"}; !slices.Equal(got, want) {
		t.Errorf("above %s: %q, want %q", london, got, want)
	}
	if got := london.Channel(); got != "news" {
		t.Errorf("its channel is %q", got)
	}
	if got := shared.Topic("news").Channel(); got != "news" {
		t.Errorf("the channel of news is %q", got)
	}
}

func TestWhatATopicCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		topic, other shared.Topic
		want         bool
	}{
		{"news", "news", true}, {"news", "news.uk", true}, {"news", "news.uk.london", true}, {"*", "news.uk", true},
		{"news.uk", "news", false}, {"news", "newsletter", false}, {"news", "sport", false}, {"news.uk", "news.ukraine", false},
	} {
		if got := c.topic.Covers(c.other); got != c.want {
			t.Errorf("%s covers %s: %v, want %v", c.topic, c.other, got, c.want)
		}
	}
}

// FuzzTopicValidate: what is accepted is what the rules of topics say, put in another way, and the
// topics above it are at most 16, which are accepted and cover it.
func FuzzTopicValidate(f *testing.F) {
	for _, topic := range []string{"news.uk.london", "*", "news.*", "a*", "", ".", "a..b", "a\x00", "\x7f", "\xff", "ü.😀", strings.Repeat("a.", 16) + "a", strings.Repeat("x", 256)} {
		f.Add(topic)
	}
	f.Fuzz(func(t *testing.T, text string) {
		segments := strings.Split(text, ".")
		want := len(text) <= 255 && len(segments) <= 16 && utf8.ValidString(text) &&
			!slices.Contains(segments, "") && !slices.Contains(segments, "*") &&
			!strings.ContainsFunc(text, func(r rune) bool { return r <= unicode.MaxASCII && unicode.IsControl(r) })
		topic := shared.Topic(text)
		err := topic.Validate()
		if (err == nil) != want || err != nil && !errors.Is(err, shared.ErrBadTopic) {
			t.Fatalf("%q: %v, want it accepted: %v", text, err, want)
		}
		if err := topic.ValidateSubscription(); (err == nil) != (want || text == "*") {
			t.Errorf("%q to subscribe to: %v", text, err)
		}
		if !want {
			return
		}
		above := slices.Collect(topic.Up())
		if len(above) != len(segments) || topic.Channel() != segments[0] {
			t.Errorf("%q has the channel %q and is below %q", text, topic.Channel(), above)
		}
		for i, parent := range above {
			if err := parent.Validate(); err != nil || !parent.Covers(topic) || i > 0 && topic.Covers(parent) {
				t.Errorf("%q is above %q, and does not cover it: %v", parent, text, err)
			}
		}
	})
}
