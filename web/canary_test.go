package web_test

import (
	"net/http"
	"testing"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/web"
)

// What these tests have a handler log is searched for secrets: a text that it does
// show is found there.
func TestWhatIsLoggedIsSearched(t *testing.T) {
	s := start(t, web.Config{RemoteAddr: func(*http.Request) string { return canary.Decoy(canary.WebLogger) }}, echo)
	c := s.dialV2(t)
	c.Send("no JSON")
	c.WantReply("error bad_json")
}
