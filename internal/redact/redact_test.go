package redact_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/redact"
)

func TestASecretIsTakenOutHoweverItIsQuoted(t *testing.T) {
	t.Parallel()
	const secret = "a\"b ü/\n%c"
	asJSON, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, quoted := range []string{secret, fmt.Sprintf("%q", secret), fmt.Sprintf("%+q", secret), string(asJSON), url.QueryEscape(secret), url.PathEscape(secret)} {
		got := redact.Text("before "+quoted+" after", secret)
		if !strings.Contains(got, "[redacted]") || strings.Contains(got, strings.Trim(quoted, `"`)) {
			t.Errorf("of %s this is left: %s", quoted, got)
		}
	}
	if got := redact.Text("nothing to hide", ""); got != "nothing to hide" {
		t.Errorf("without a secret the text is changed: %s", got)
	}
}

func TestOfAPanicTheValueIsNotSaid(t *testing.T) {
	t.Parallel()
	recovered := func(f func()) (text string) {
		defer func() { text = redact.Panic(recover()) }()
		f()
		return ""
	}
	var none map[string]int
	if got := recovered(func() { none["x"] = 1 }); got != "assignment to entry in nil map" {
		t.Errorf("of an error of the runtime this is said: %s", got)
	}
	for _, v := range []any{"hunter2", errors.New("hunter2"), struct{ secret string }{"hunter2"}} {
		if got := recovered(func() { panic(v) }); strings.Contains(got, "hunter2") || !strings.Contains(got, fmt.Sprintf("%T", v)) {
			t.Errorf("of a %T this is said: %s", v, got)
		}
	}
}
