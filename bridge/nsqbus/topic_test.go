package nsqbus

import (
	"errors"
	"strings"
	"testing"

	"github.com/nsqio/go-nsq"

	"github.com/entity-sync/entity-sync/shared"
)

// A topic is one that NSQ takes, tells the entity type that it is of, and outlives
// its clients; what cannot be one is refused before NSQ is asked.
func FuzzTopic(f *testing.F) {
	for _, entity := range []string{"items", "", "a b", "x\n", "#ephemeral", "x#ephemeral", "é", strings.Repeat("x", 64), strings.Repeat("x", 65), "x\nPUB y"} {
		f.Add("", entity)
		f.Add("prefix.", entity)
	}
	f.Add("a b", "items")
	f.Fuzz(func(t *testing.T, prefix, entity string) {
		topic, err := Config{Prefix: prefix}.topic(shared.EntityType(entity))
		if err != nil {
			possible := entity != "" && nsq.IsValidTopicName(entity) && nsq.IsValidTopicName(prefix+entity) && !strings.Contains(prefix+entity, "#")
			if !errors.Is(err, shared.ErrBadEntity) || topic != "" || possible {
				t.Errorf("%q after %q is refused: %q, %v", entity, prefix, topic, err)
			}
			return
		}
		if back, found := strings.CutPrefix(topic, prefix); !found || back != entity {
			t.Errorf("%q after %q is the topic %q", entity, prefix, topic)
		}
		if !nsq.IsValidTopicName(topic) || strings.HasSuffix(topic, "#ephemeral") {
			t.Errorf("%q after %q is the topic %q, which is none", entity, prefix, topic)
		}
	})
}
