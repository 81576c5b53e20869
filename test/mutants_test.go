package test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// edit replaces text that a file holds exactly once; file is relative to package bridge.
type edit struct{ file, old, new string }

// mutants are deliberate bugs in the engine, each one that a promise rests on
// not being there.
var mutants = map[string][]edit{
	"the dirty flag is skipped: a mark during a fetch is forgotten": {
		{"mark.go", "	v.owed |= c\n", "	if v.state != fetching && v.state != delivering {\n		v.owed |= c\n	}\n"},
	},
	"pushed without the generation check: to who was a member when the fetch began": {
		{"fetch.go", "	secret shared.Secret\n}", "	secret shared.Secret\n	members []*subscription\n}"},
		{"mark.go", "cause: v.owed, secret: secret}", "cause: v.owed, secret: secret, members: append([]*subscription(nil), v.members...)}"},
		{"deliver.go", "	v.handOutLocked(job.cause, u)\n", "	for _, sub := range job.members {\n		if due, ok := v.due(sub, job.cause, u); ok {\n			sub.client.sink.Push(&sub.slot, due)\n		}\n	}\n"},
	},
	"indexed after the fetch: a member is not marked for before its snapshot": {
		{"mark.go", "	if c != 0 {\n", "	if len(v.members) > 0 && v.members[0].fetch == 0 && v.state == fetching {\n		return\n	}\n	if c != 0 {\n"},
	},
	"the resync is dropped: after the bus was lost nothing is looked at again": {
		{"entity.go", "n := e.index.looksAgain(g.Position)\n	b.counts.resyncsJoined", "n := 0\n	b.counts.resyncsJoined"},
	},
	"the resync is dropped: after a number was missed nothing is looked at again": {
		{"entity.go", "n := e.index.looksAgain(g.Position)\n	e.bridge.noteMissed", "n := 0\n	e.bridge.noteMissed"},
	},
	"a node's own clients are left to the bus": {
		{"../internal/feed/publish.go", "		p.Feed.changedHere(p.IDs)\n", ""},
	},
	"delivered out of order: two fetches of a view at once": {
		{"mark.go", "	case idle, queued:\n		v.queueLocked(client)", "	case idle, queued, fetching:\n		v.queueLocked(client)"},
		{"deliver.go", "		v.pending = nil\n", ""}, // it may be in the queue again
		{"view.go", "	v.setStaleLocked(v.stale & staleBus)\n	v.pending = nil\n", "	v.setStaleLocked(v.stale & staleBus)\n"},
	},
	"a change of secret leaves what waits to be written": {
		{"index.go", "dropped := sub.client.sink.Drop(&sub.slot); dropped || from.owed", "from.owed"},
	},
	"a change of secret leaves a refusal that waits to be written": {
		{"client.go", "			c.resume(sub, scopes[ent])\n", ""},
	},
	"a change of secret takes a refusal back, and the subscription is over": {
		{"client.go", "	c.refused.Add(-1)\n	c.bridge.counts.subscriptions.Add(1)\n	//", "	if c.refused.Load() > 0 {\n		return\n	}\n	//"},
	},
	"a failed fetch is not tried again": {
		{"mark.go", "RetryAfter(&e.entry, v, delay)", "RetryAfter(&e.entry, v, 1000*time.Hour)"},
		{"internal/schedule/retry.go", "	if failures >= outage {", "	if failures > 1<<60 {"},
		{"internal/schedule/retry.go", "	if now.Sub(s.probed) < probeInterval {", "	if now.Sub(s.probed) < 1000*time.Hour {"},
	},
	"silence is not noticed: an echo that was acknowledged and does not come back is not missed": {
		{"../internal/echo/ear.go", "if unheard >= drowned || unheard >= rounds && e.heard.Load() == before {", "if unheard > 1<<30 && e.heard.Load() == before {"},
	},
	"a subscription that is gone without a word: it is asked once, when it begins": {
		{"../internal/echo/ear.go", "		e.rest(ctx)\n", "		<-ctx.Done()\n"},
	},
	"silence on one of several brokers is not told": {
		{"../internal/echo/reach.go", "len(r.states) > r.silent && r.silent == 0", "len(r.states) > r.silent"},
	},
	"a broker out of a node's reach: beats go to one broker alone": {
		{"../internal/feed/send.go", "(p.feed.spread.Load() || m.isBeat())", "p.feed.spread.Load()"},
	},
	"a scope that has changed: that of a fetch's secret is not asked when the result is there": {
		{"rescope.go", "	ours = same\n", "	ours = true\n"},
	},
	"a scope that has changed: that of a member is not asked when the result is there": {
		{"rescope.go", "		if !same {\n			m.sub", "		if false {\n			m.sub"},
	},
	"a snapshot does not ask for a fetch": {
		{"view.go", "	v.markLocked(causeJoined, sub.client.number)\n", ""},
	},
}

// mutantsOfTopics are the same for events.
var mutantsOfTopics = map[string][]edit{
	"a gap is not told to who was there": {
		{"events/hub.go", "if sub.number <= g.Position {", "if sub.number > g.Position {"},
	},
	"a node that was cut off says nothing when it hears the bus again": {
		{"events/hub.go", "if g.Reason != feed.Disconnected {", "if g.Reason == feed.Missing {"},
	},
	"an event goes to an exact subscription to a topic above": {
		{"events/deliver.go", "if sub.exact && !n.exact {", "if false {"},
	},
	"who publishes without an echo hears the event": {
		{"events/deliver.go", "if m.isNotFor(client) {", "if false {"},
	},
	"what waits of a subscription that has ended is read": {
		{"events/client.go", "	c.sink.Retract(sub.topic)\n", ""},
	},
	"an event that is late is missing without a word": {
		{"../internal/feed/reorder.go", "	case m.Seq-m.Skip > o.next:\n", "	case m.Seq == 0:\n"},
	},
	"an event that the bus doubled comes twice": {
		{"../internal/feed/reorder.go", "	case m.Seq < o.next, known:\n", "	case known:\n"},
	},
	"the last event before silence is missing without a word": {
		{"../internal/feed/beat.go", "m.Seq = p.feed.stream.publish.reached()", "m.Seq = 0"},
	},
	"too many events wait, and the oldest goes without a gap": {
		{"../internal/eventqueue/queue.go", "	for _, topic := range oldest.event.Topics() {\n", "	for _, topic := range []string(nil) {\n"},
	},
	"the bytes that wait are not bounded": {
		{"../internal/eventqueue/queue.go", " || q.bytes > q.limits.Bytes && q.events > 1", ""},
	},
	"an older event stays in the place of the latest": {
		{"../internal/eventqueue/queue.go", "		waiting.event = event\n", ""},
	},
	"the latest event overtakes one of several topics": {
		{"events/deliver.go", "Fence: t.message.fence}", "Fence: false}"},
	},
	"more is kept of a topic than its channel says": {
		{"events/memory.go", "len(t.events) > rules[i].Keep", "len(t.events) > 2*rules[i].Keep"},
	},
	"who comes back is not told of what is kept no longer": {
		{"events/memory.go", "if m.isIncomplete(sub, rule, last) {", "if false {"},
	},
	"who comes back is not handed what others published shortly before": {
		{"events/memory.go", "const overlap = 6 * time.Second", "const overlap = 0"},
	},
	"who comes back is not told of what was already late": {
		{"events/client.go", "		sub.number = 0 ", "		_ = sub.number "},
	},
}

// The models of bridge/model_test.go and bridge/model_topics_test.go notice each of them; a model
// that does not would prove nothing by passing. The bugs are put in as the compiler reads the
// files, which stay as they are.
func TestTheModelCatchesDeliberateBugs(t *testing.T) {
	catches(t, "TestPromisesUnderRandomSchedules", mutants)
}

func TestTheModelCatchesDeliberateBugsOfTopics(t *testing.T) {
	catches(t, "TestPromisesOfTopicsUnderRandomSchedules", mutantsOfTopics)
}

func catches(t *testing.T, model string, mutants map[string][]edit) {
	t.Helper()
	if out, err := runModel(t, model, nil, 2_000); err != nil {
		t.Fatalf("without any bug: %v\n%s", err, out)
	}
	for name, edits := range mutants {
		t.Run(name, func(t *testing.T) {
			out, err := runModel(t, model, edits, 50_000) // some are found in one schedule of 500
			var exit *exec.ExitError
			if err == nil {
				t.Error("the model passes")
			} else if !errors.As(err, &exit) || !strings.Contains(out, "--- FAIL: "+model) {
				t.Fatalf("the model did not run: %v\n%s", err, out)
			}
		})
	}
}

// runModel runs so many schedules of a model on the engine with edits, until one fails.
func runModel(t *testing.T, model string, edits []edit, schedules int) (output string, err error) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir, texts := t.TempDir(), map[string]string{}
	for _, e := range edits {
		path := filepath.Join(root, "bridge", e.file)
		if _, read := texts[path]; !read {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(b)
		}
		if n := strings.Count(texts[path], e.old); n != 1 {
			t.Fatalf("%s holds %q %d times, want once: the mutant is out of date", e.file, e.old, n)
		}
		texts[path] = strings.Replace(texts[path], e.old, e.new, 1)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range texts {
		mutated := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(mutated, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = mutated
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count", "1", "-vet", "off", "-overlay", file,
		"-run", "^"+model+"$", "./bridge",
		"-rapid.checks", strconv.Itoa(schedules), "-rapid.shrinktime", "0s", "-rapid.nofailfile")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
}
