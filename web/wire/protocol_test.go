package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
	"github.com/entity-sync/entity-sync/shared"
)

// protocol is the document.
const protocol = "docs/protocol.md"

// Every frame that the document shows is one that the code makes, and the other
// way round.
func TestTheDocumentShowsTheFramesOfTheServer(t *testing.T) {
	const (
		version = "tp0ICeR8Qa1mYIZhG2hZnw"
		event   = `{"specversion":"1.0","id":"3OPKYIJFCGQWBQZ4-8","source":"/news/uk/london","type":"event","time":"2025-11-30T08:06:40.5Z","data":{"title":"fog"}}`
	)
	key := func(id string) shared.EntityKey { return shared.EntityKey{Entity: "items", ID: id} }
	made := []Reply{
		{Action: ActionAck, Ref: json.RawMessage("2")},
		{Action: ActionUpdate, Key: key("100"), Version: version, Rows: [][]byte{[]byte(`{"id":"100","name":"hammer"}`)}},
		{Action: ActionCurrent, Key: key("101"), Version: version},
		{Action: ActionDelete, Key: key("100")},
		{Action: ActionUnsubscribed, Key: key("100"), Code: CodeForbidden, Message: "this secret may not see it"},
		{Action: ActionStale},
		{Action: ActionFresh},
		{Action: ActionExpiring, Seconds: 30},
		RefusalOf(shared.ErrUnknownEntity).About(0, shared.EntityKey{Entity: "nothing", ID: "1"}).WithRef(json.RawMessage("3")).Reply(),
		RefusalOf(shared.ErrBadKey).About(2, key("")).WithRef(json.RawMessage("4")).Reply(),
		{Action: ActionEvent, Topic: "news.uk.london", Context: []shared.Topic{"news.uk", "news"}, Event: json.RawMessage(event)},
		{Action: ActionGap, Topic: "news", Missed: 37},
		{Action: ActionGap, Topic: "news"},
		{Action: ActionUnsubscribed, Topic: "news", Code: CodeForbidden, Message: RefusalOf(shared.ErrForbidden).Message},
		RefusalOf(shared.ErrUnknownTopic).AboutTopic(0, "sport").WithRef(json.RawMessage("5")).Reply(),
		RefusalOf(shared.ErrBadTopic).AboutTopic(1, "").WithRef(json.RawMessage("6")).Reply(),
	}
	shown := docs.Lines(t, protocol, "json server")
	if len(shown) != len(made) {
		t.Errorf("the document shows %d frames, the code makes %d", len(shown), len(made))
	}
	for i := range min(len(shown), len(made)) {
		if got := (V2{}).Reply(made[i]); len(got) != 1 || string(got[0]) != shown[i] {
			t.Errorf("the document shows %s, the code makes %q", shown[i], got)
		}
		// And the client's end reads what the node's end has said.
		got, ok := ReadReply([]byte(shown[i]))
		if !ok || !reflect.DeepEqual(got, made[i]) {
			t.Errorf("%s is read as %+v, want %+v", shown[i], got, made[i])
		}
	}
}

// Every request that the document shows is read as what the document says of it.
func TestTheDocumentShowsTheRequestsOfTheClient(t *testing.T) {
	key := func(id string) Target {
		return Target{Key: Key{EntityKey: shared.EntityKey{Entity: "items", ID: id}, Snapshot: true}}
	}
	topic := func(topic shared.Topic) Target { return Target{IsTopic: true, Topic: topic} }
	versioned, changes, exact, after := key("101"), key("102"), topic("weather"), topic("news")
	versioned.Version, changes.Snapshot, exact.Exact, after.After = "tp0ICeR8Qa1mYIZhG2hZnw", false, true, "3OPKYIJFCGQWBQZ4-7"
	const event = `{"specversion":"1.0","id":"1","source":"/desk","type":"report","data":{"title":"sun"}}`
	want := []Request{
		{Action: ActionSecret, Secret: "my-session-token"},
		{Action: ActionSubscribe, Targets: []Target{key("100")}},
		{Action: ActionSubscribe, Targets: []Target{versioned, changes}},
		{Action: ActionUnsubscribe, Targets: []Target{key("101"), key("102")}},
		{Action: ActionSubscribe, Targets: []Target{topic("news.uk")}},
		{Action: ActionSubscribe, Targets: []Target{exact, key("100")}},
		{Action: ActionSubscribe, Targets: []Target{after}},
		{Action: ActionPublish, Publication: Publication{Topics: []shared.Topic{"news.uk"}, Data: json.RawMessage(`{"title":"rain"}`)}},
		{Action: ActionPublish, Publication: Publication{Topics: []shared.Topic{"news.uk", "weather"}, Event: json.RawMessage(event), NoEcho: true}},
		{Action: ActionUnsubscribe, Targets: []Target{topic("news.uk"), key("100")}},
	}
	shown := docs.Lines(t, protocol, "json client")
	if len(shown) != len(want) {
		t.Errorf("the document shows %d requests, want %d", len(shown), len(want))
	}
	for i := range min(len(shown), len(want)) {
		if want[i].Ref = json.RawMessage(strconv.Itoa(i + 1)); i == 2 {
			want[i].Ref = json.RawMessage(`"three"`)
		}
		got, err := V2{}.Request([]byte(shown[i]), Options{MaxSecretBytes: 4096})
		if err != nil || !reflect.DeepEqual(got, want[i]) {
			t.Errorf("%s is read as %+v, %v, want %+v", shown[i], got, err, want[i])
		}
		// And the client's end makes what the document shows.
		switch ref := i + 1; {
		case got.Action == ActionPublish:
			if made := PublishRequest(ref, got.Publication); string(made) != shown[i] {
				t.Errorf("the document shows %s, the code makes %s", shown[i], made)
			}
		case len(got.Targets) == 1 && got.Targets[0].IsTopic:
			if made := TopicText(got.Targets[0]); !strings.Contains(shown[i], `"body":`+string(made)) {
				t.Errorf("the document shows %s, the code makes %s", shown[i], made)
			}
		}
	}
}

// constants returns the values of the constants of this package whose names match.
func constants(t *testing.T, name string) (values []string) {
	t.Helper()
	files, err := parser.ParseDir(token.NewFileSet(), ".", nil, 0) //nolint:staticcheck // one package, no build tags
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(name)
	for _, file := range files["wire"].Files {
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && match.MatchString(v.Names[0].Name) && len(v.Values) == 1 {
				if literal, ok := v.Values[0].(*ast.BasicLit); ok {
					values = append(values, strings.Trim(literal.Value, `"`))
				}
			}
			return true
		})
	}
	return values
}

func sorted(s []string) []string { slices.Sort(s); return s }

// first returns the first column of a table.
func first(rows [][]string) (column []string) {
	for _, row := range rows {
		column = append(column, row[0])
	}
	return column
}

func TestTheDocumentListsEveryCode(t *testing.T) {
	if got, want := sorted(first(docs.Table(t, protocol, "| code | meaning |"))), sorted(constants(t, "^Code[A-Z]")); !slices.Equal(got, want) {
		t.Errorf("the document lists %q, the code has %q", got, want)
	}
	var ours []string
	for _, c := range first(docs.Table(t, protocol, "| code | when | reconnect? |")) {
		if strings.HasPrefix(c, "4") {
			ours = append(ours, c)
		}
	}
	want := sorted(constants(t, "^Close[A-Z]"))
	want = slices.DeleteFunc(want, func(c string) bool { return c == fmt.Sprint(CloseNormal) || c == fmt.Sprint(CloseRestart) }) // RFC 6455's
	if !slices.Equal(sorted(ours), want) {
		t.Errorf("the document lists the close codes %q, the code has %q", ours, want)
	}
	for _, c := range want {
		if n, err := strconv.Atoi(c); err != nil || n < 4400 || n > 4599 {
			t.Errorf("%s is not a close code of ours", c)
		}
	}
}

// Every error of the engine has a code, and nothing of any other is told.
func TestRefusalsHaveCodes(t *testing.T) {
	for err, want := range map[error]Code{
		shared.ErrBadKey: CodeBadKey, shared.ErrUnknownEntity: CodeUnknownEntity, shared.ErrTooManySubscriptions: CodeTooMany,
		shared.ErrForbidden: CodeForbidden, shared.ErrUnauthenticated: CodeUnauthenticated, shared.ErrClosed: CodeUnavailable,
		shared.ErrBadTopic: CodeBadTopic, shared.ErrUnknownTopic: CodeUnknownTopic, shared.ErrBadEvent: CodeBadEvent, shared.ErrTooLarge: CodeTooLarge,
		errors.New(canary.Mark): CodeUnavailable,
	} {
		r := RefusalOf(fmt.Errorf("doing it: %w", err))
		if r.Code != want || strings.Contains(r.Message, canary.Mark) {
			t.Errorf("%v is told as %v", err, r)
		}
	}
}

func TestTheDocumentListsEveryAction(t *testing.T) {
	said := map[string]bool{}
	for _, line := range docs.Lines(t, protocol, "json server") {
		r, ok := ReadReply([]byte(line))
		if !ok {
			t.Fatalf("%s cannot be read", line)
		}
		said[string(r.Action)] = true
	}
	if got, want := sorted(first(docs.Table(t, protocol, "| action | says |"))), sorted(slices.Collect(maps.Keys(said))); !slices.Equal(got, want) {
		t.Errorf("the document explains %q and shows %q", got, want)
	}
}
