package canary

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
)

// everything is what a run leaves that has written to every place.
func everything() fstest.MapFS {
	kept := fstest.MapFS{}
	for _, p := range Places() {
		kept["some/"+string(p)] = &fstest.MapFile{Data: []byte("before\n" + Decoy(p) + "\nafter")}
	}
	return kept
}

func TestNothingIsFoundWhereNothingIs(t *testing.T) {
	r, err := Find(everything(), Places()...)
	if err != nil || len(r.Hits) > 0 || r.Files != len(Places()) || r.Bytes == 0 {
		t.Errorf("found %+v, %v", r, err)
	}
}

// A search that passes has searched everything.
func TestAPlaceThatWasNotKeptIsAnError(t *testing.T) {
	for _, p := range Places() {
		kept := everything()
		delete(kept, "some/"+string(p))
		if _, err := Find(kept, Places()...); err == nil || !strings.Contains(err.Error(), Decoy(p)) {
			t.Errorf("without %s: %v", p, err)
		}
	}
	if _, err := Find(fstest.MapFS{}, Places()...); err == nil {
		t.Error("nothing was written, and that is fine")
	}
}

// However a secret is written, what is around it.
func TestASecretIsFound(t *testing.T) {
	for _, mark := range marks {
		secret := "my " + mark + "\"<secret>\""
		var logged strings.Builder
		Logger(&logged).Info("message", slog.Any("list", []string{secret}))
		asJSON, err := json.Marshal(map[string]string{"secret": secret})
		if err != nil {
			t.Fatal(err)
		}
		for how, text := range map[string]string{
			"as it is": secret, "quoted": fmt.Sprintf("%q", secret), "%x": fmt.Sprintf("%x", secret), "%X": fmt.Sprintf("%X", secret),
			"bytes": fmt.Sprintf("%d", []byte(secret)), "JSON": string(asJSON), "a log": logged.String(), "a URL": url.QueryEscape(secret),
			"base64":         base64.StdEncoding.EncodeToString([]byte(secret)),
			"base64 after 1": base64.URLEncoding.EncodeToString([]byte("1" + secret)),
			"base64 after 2": base64.RawStdEncoding.EncodeToString([]byte("12" + secret)),
			"base64 alone":   base64.StdEncoding.EncodeToString([]byte(mark)),
		} {
			kept := everything()
			kept["log/pkg.txt"] = &fstest.MapFile{Data: []byte("=== RUN   TestOne\nfine\n=== NAME  TestTwo\n    " + text + "\n=== CONT  TestOne\n")}
			r, err := Find(kept, Places()...)
			if err != nil || len(r.Hits) != 1 || r.Hits[0].Path != "log/pkg.txt" || r.Hits[0].Line != 4 || r.Hits[0].Test != "TestTwo" {
				t.Errorf("%s: found %d, %v; want line 4 of TestTwo", how, len(r.Hits), err)
			}
		}
	}
}

// A file that a test has left says whose it is.
func TestTheOwnerOfAFileIsNamed(t *testing.T) {
	kept := everything()
	kept["_artifacts/17/nsqd/data"] = &fstest.MapFile{Data: []byte(Mark)}
	kept["pkg.txt"] = &fstest.MapFile{Data: []byte("=== ARTIFACTS TestOne/inner /somewhere/_artifacts/17\n")}
	r, err := Find(kept, Places()...)
	if err != nil || len(r.Hits) != 1 || r.Hits[0].Test != "TestOne/inner" {
		t.Errorf("%d hits, %v", len(r.Hits), err)
	}
}

func TestALongLineIsCut(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	r, _ := Find(fstest.MapFS{"log": {Data: []byte(long + Mark + long)}})
	if len(r.Hits) != 1 || len(r.Hits[0].Text) > excerptBytes || !strings.Contains(r.Hits[0].Text, Mark) {
		t.Errorf("%d found", len(r.Hits))
	}
}

// The marks look the same in both alphabets of base64.
func TestMarksSurviveBase64(t *testing.T) {
	for _, form := range forms {
		if strings.ContainsAny(form, "_") {
			t.Errorf("%d characters of a form hold one that the other alphabet has not", len(form))
		}
	}
}

// fails is a test that counts its errors.
type fails struct {
	testing.TB
	errors int
}

func (f *fails) Errorf(string, ...any) { f.errors++ }

func TestWatchFailsTheTest(t *testing.T) {
	f := &fails{TB: t}
	log := Logger(Watch(f))
	log.Info("fine")
	if f.errors != 0 {
		t.Error("it fails without a secret")
	}
	log.Info("message", slog.String("secret", Mark))
	if f.errors != 1 {
		t.Error("it does not fail")
	}
}
