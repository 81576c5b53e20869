package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAPIRefuses(t *testing.T) {
	t.Parallel()
	node := startDemo(t, Config{}).Nodes[0]
	id := addItem(t, node, "Scale")
	item := "/api/items/" + id
	const good = `{"name":"Tamper","quantity":1,"priceCents":100,"costCents":50}`

	for name, c := range map[string]struct {
		request
		status int
		says   string
	}{
		"no secret":            {request{"PATCH", item, "", `{"add":1}`, ""}, 401, "who you are"},
		"unknown secret":       {request{"PATCH", item, "letmein", `{"add":1}`, ""}, 401, "who you are"},
		"guest adds":           {request{"POST", "/api/items", guestSecret, good, ""}, 403, "manager"},
		"guest deletes":        {request{"DELETE", item, guestSecret, "", ""}, 403, "manager"},
		"guest renames":        {request{"PATCH", item, guestSecret, `{"name":"Mine"}`, ""}, 403, "manager"},
		"guest sets the price": {request{"PATCH", item, guestSecret, `{"priceCents":1}`, ""}, 403, "manager"},
		"guest sets the cost":  {request{"PATCH", item, guestSecret, `{"quantity":1,"costCents":1}`, ""}, 403, "manager"},

		"change nothing there": {request{"PATCH", "/api/items/nonesuch", guestSecret, `{"add":1}`, ""}, 404, "no such item"},
		"delete nothing there": {request{"DELETE", "/api/items/nonesuch", managerSecret, "", ""}, 404, "no such item"},

		"not JSON":           {request{"PATCH", item, managerSecret, `quantity=3`, ""}, 400, "JSON"},
		"two values":         {request{"PATCH", item, managerSecret, `{"add":1}{"add":1}`, ""}, 400, "JSON"},
		"unknown field":      {request{"PATCH", item, managerSecret, `{"written_at":1}`, ""}, 400, "JSON"},
		"wrong type":         {request{"PATCH", item, managerSecret, `{"quantity":"many"}`, ""}, 400, `"quantity" cannot be string`},
		"a broken number":    {request{"PATCH", item, managerSecret, `{"quantity":1.5}`, ""}, 400, `"quantity" cannot be number 1.5`},
		"wrong content type": {request{"PATCH", item, managerSecret, `{"add":1}`, "text/plain"}, 415, "application/json"},
		"no content type":    {request{"PATCH", item, managerSecret, `{"add":1}`, "-"}, 415, "application/json"},
		"too large":          {request{"PATCH", item, managerSecret, `{"name":"` + strings.Repeat("x", maxBody) + `"}`, ""}, 413, "larger than"},

		"nothing to change":  {request{"PATCH", item, guestSecret, `{}`, ""}, 422, "nothing to change"},
		"set and add":        {request{"PATCH", item, guestSecret, `{"quantity":1,"add":1}`, ""}, 422, "not both"},
		"negative quantity":  {request{"PATCH", item, guestSecret, `{"quantity":-1}`, ""}, 422, "quantity must be from 0"},
		"less than there is": {request{"PATCH", item, guestSecret, `{"add":-11}`, ""}, 422, "quantity must stay"},
		"an enormous step":   {request{"PATCH", item, guestSecret, `{"add":9223372036854775807}`, ""}, 422, "step must be"},
		"empty name":         {request{"PATCH", item, managerSecret, `{"name":"  "}`, ""}, 422, "name is empty"},
		"long name":          {request{"PATCH", item, managerSecret, `{"name":"` + strings.Repeat("é", maxNameRunes+1) + `"}`, ""}, 422, "longer than"},
		"control character":  {request{"PATCH", item, managerSecret, `{"name":"a\u0007b"}`, ""}, 422, "control"},
		"negative price":     {request{"PATCH", item, managerSecret, `{"priceCents":-1}`, ""}, 422, "price must be"},
		"enormous cost":      {request{"PATCH", item, managerSecret, `{"costCents":100000000}`, ""}, 422, "unit cost must be"},
		"add without a name": {request{"POST", "/api/items", managerSecret, `{"quantity":1}`, ""}, 422, "name is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, node, c.request)
			if a.status != c.status || !strings.Contains(a.errorText(), c.says) {
				t.Errorf("got %d %q, want %d and something of %q", a.status, a.errorText(), c.status, c.says)
			}
		})
	}
	// None of it has changed the row.
	w := watch(t, node, managerSecret)
	w.subscribe(itemEntity, id)
	row := w.item("the item", anyItem)
	if row["name"] != "Scale" || row["quantity"] != 10.0 || row["priceCents"] != 500.0 || row["costCents"] != 300.0 {
		t.Errorf("the row is now %v", row)
	}
}

func TestAPIBoardIsBounded(t *testing.T) {
	t.Parallel()
	node := startDemo(t, Config{}).Nodes[0]
	for range maxItems - len(samples) {
		addItem(t, node, "One more")
	}
	a := send(t, node, request{method: "POST", path: "/api/items", secret: managerSecret, body: `{"name":"Too many"}`})
	if a.status != http.StatusConflict || !strings.Contains(a.errorText(), "full") {
		t.Errorf("got %d %q, want 409 and that the board is full", a.status, a.errorText())
	}
}

// Two nodes add to one row at once; no step is lost.
func TestAPIStepsAddUp(t *testing.T) { onEachAtOnce(t, testAPIStepsAddUp) }

func testAPIStepsAddUp(t *testing.T, c Config) {
	d := startDemo(t, c)
	id := addItem(t, d.Nodes[0], "Spoon")
	const each = 20
	done := make(chan struct{})
	for _, node := range d.Nodes {
		go func() {
			defer func() { done <- struct{}{} }()
			for range each {
				if a := send(t, node, request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"add":1}`}); a.status != 200 {
					t.Errorf("adding one: %d %v", a.status, a.body)
				}
			}
		}()
	}
	<-done
	<-done
	for _, node := range d.Nodes {
		w := watch(t, node, guestSecret)
		w.subscribe(itemEntity, id)
		w.item("all steps together", func(row map[string]any) bool { return row["quantity"] == 10.0+2*each })
	}
}

// The bus is for the board's own pages to switch, on the machine that it runs on.
func TestAPIBusIsGuarded(t *testing.T) {
	d := startDemo(t, Config{})
	node := d.Nodes[0]
	for name, c := range map[string]struct {
		secret, from, host string
		header             http.Header
		status             int
	}{
		"nobody":                       {"", "127.0.0.1:5000", "localhost:8080", nil, 401},
		"somebody":                     {guestSecret, "127.0.0.1:5000", "localhost:8080", nil, 200},
		"over IPv6":                    {guestSecret, "[::1]:5000", "[::1]:8080", nil, 200},
		"another machine":              {managerSecret, "192.0.2.1:5000", "127.0.0.1", nil, 403},
		"another site":                 {managerSecret, "127.0.0.1:5000", "127.0.0.1:8080", http.Header{"Origin": {"http://example.org"}}, 403},
		"a site whose name leads here": {managerSecret, "127.0.0.1:5000", "example.org:8080", http.Header{"Origin": {"http://example.org:8080"}}, 403},
		"a form":                       {managerSecret, "127.0.0.1:5000", "127.0.0.1:8080", http.Header{"Content-Type": {"text/plain"}}, 415},
	} {
		t.Run(name, func(t *testing.T) {
			switchBus(t, node, true)
			r := httptest.NewRequestWithContext(t.Context(), "PUT", "/api/bus", strings.NewReader(`{"running":false}`))
			r.RemoteAddr, r.Host = c.from, c.host
			r.Header.Set("Content-Type", "application/json")
			if c.secret != "" {
				r.Header.Set("Authorization", "Bearer "+c.secret)
			}
			maps.Copy(r.Header, c.header)
			w := httptest.NewRecorder()
			node.server.Handler.ServeHTTP(w, r)
			if w.Code != c.status || d.Broker.Running() != (c.status != 200) {
				t.Errorf("got %d %q, and the bus runs: %v; want %d", w.Code, w.Body, d.Broker.Running(), c.status)
			}
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("got %q, which is no JSON", w.Body)
			}
		})
	}
}

func TestPageServesTheClient(t *testing.T) {
	t.Parallel()
	node := startDemo(t, Config{}).Nodes[0]
	resp, err := http.Get(node.URL() + "entity-sync/index.js")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(got, "text/javascript") {
		t.Errorf("got %d as %q", resp.StatusCode, got)
	}
}

func TestPageHeaders(t *testing.T) {
	t.Parallel()
	node := startDemo(t, Config{}).Nodes[0]
	// The template itself is not for the world.
	resp, err := http.Get(node.URL() + "assets/index.html")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == 200 && resp.Request.URL.Path == "/assets/index.html" {
		t.Errorf("/assets/index.html is served")
	}
	for _, path := range []string{"", "assets/app.js", "assets/style.css", "assets/icon.svg"} {
		resp, err := http.Get(node.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		host := node.listener.Addr().String()
		policy := resp.Header.Get("Content-Security-Policy")
		if resp.StatusCode != 200 || !strings.HasPrefix(policy, "default-src 'self'; connect-src 'self' ws://"+host+" wss://"+host+";") {
			t.Errorf("/%s: %d, Content-Security-Policy %q", path, resp.StatusCode, policy)
		}
	}
}
