package proxies

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

const patience = testkit.Patience

// get asks the proxy for a page. Each request has a connection of its own, for which the
// proxy looks for a node anew.
func (p *proxy) get(t *testing.T, path string) (string, error) {
	t.Helper()
	return p.ask(t, http.MethodGet, path)
}

func (p *proxy) ask(t *testing.T, method, path string) (string, error) {
	t.Helper()
	return ask(&http.Transport{TLSClientConfig: p.tls, DisableKeepAlives: true}, method, "https://"+p.host+path)
}

// get asks the node itself.
func (n *node) get(path string) (string, error) {
	return ask(&http.Transport{DisableKeepAlives: true}, http.MethodGet, "http://"+n.Addr+path)
}

// ask returns the body of an answer, and an error where its status is not 200.
func ask(transport *http.Transport, method, url string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience/6)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	return string(body), err
}
