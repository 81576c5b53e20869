package shared_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

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
