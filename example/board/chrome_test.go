package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/entity-sync/entity-sync/internal/canary"
	"github.com/entity-sync/entity-sync/test/chromium"
)

// startBrowser starts Chromium for pages of the board, and ends it with the test.
func startBrowser(t *testing.T) *chromium.Browser {
	t.Helper()
	return chromium.Start(t, chromium.Options{Console: true, Afresh: true})
}

// tab is one page of the board, open in a browser.
type tab struct {
	*chromium.Tab

	mu       sync.Mutex
	frames   []string // that came over WebSocket
	requests []string // methods of the calls of the API
	faults   []string // exceptions
}

// openTab opens node's page as role in a tab of its own, and waits until it shows rows.
func openTab(t *testing.T, browser *chromium.Browser, n *Node, role Role) *tab {
	t.Helper()
	b := &tab{Tab: browser.Blank(t)}
	b.Listen(b.listen)
	b.Do(
		chromium.Command(network.Enable, network.EnableParams{}),
		chromium.Command(runtime.Enable, cdp.Empty{}),
		chromedp.EmulateViewport(1100, 900),
		chromedp.Navigate(n.URL()+"?as="+string(role)),
		chromedp.Evaluate[chromedp.Void](fmt.Sprintf("console.log(%q)", canary.Decoy(canary.Browser))),
	)
	b.Until("the page is live and shows rows",
		`document.querySelector("#light").dataset.state === "live" && document.querySelectorAll("#rows tr").length > 0`)
	return b
}

func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventWebSocketFrameReceived:
		b.frames = append(b.frames, string(e.Response.PayloadData))
	case *network.EventRequestWillBeSent:
		if strings.Contains(e.Request.URL, "/api/") {
			b.requests = append(b.requests, e.Request.Method)
		}
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	}
}

// received returns the frames that came so far.
func (b *tab) received() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.frames...)
}

// requested returns the methods of the calls of the API so far.
func (b *tab) requested() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.requests...)
}

// checkFaults fails the test for each exception in the page.
func (b *tab) checkFaults() {
	b.T.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fault := range b.faults {
		b.T.Errorf("the page threw: %s", fault)
	}
}

// enter replaces the text of the field that selector finds and presses Enter.
func (b *tab) enter(selector, text string) {
	b.T.Helper()
	b.focus(selector)
	b.Do(chromedp.KeyEvent(text + "\r"))
}

// focus puts the cursor into a field and selects what is there.
func (b *tab) focus(selector string) {
	b.T.Helper()
	b.Run(find(selector) + ".focus(); " + find(selector) + ".select()")
}

// typeInto types a text into a field as it is.
func (b *tab) typeInto(selector, text string) {
	b.T.Helper()
	b.Do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

func (b *tab) click(selector string) {
	b.T.Helper()
	b.Do(chromedp.Click(chromedp.CSS(selector)))
}

// recordFlashes notes in flashes which cells flash from now on, as "<id> <field>". A
// flash is over before a slow machine has looked.
func (b *tab) recordFlashes() {
	b.T.Helper()
	b.Run(`window.flashes = []; document.addEventListener("animationstart", ({ target }) => {
		if (target.matches("#rows tr[data-id] > .flash")) flashes.push(target.closest("tr").dataset.id + " " + target.classList[0]);
	}); undefined`)
}

// viewport makes the tab the size of a screen, light or dark.
func (b *tab) viewport(width, height int64, scheme string) {
	b.T.Helper()
	b.Do(
		chromedp.EmulateViewport(width, height),
		chromium.Command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
	)
}

// row is a selector for an item's row, and what is in it.
func row(id string, inside ...string) string {
	return strings.TrimSpace(fmt.Sprintf(`tr[data-id=%q] %s`, id, strings.Join(inside, " ")))
}

// find is the expression for what a selector finds.
func find(selector string) string { return fmt.Sprintf("document.querySelector(%q)", selector) }

// shows is the expression for a field that holds a text.
func shows(selector, text string) string {
	return fmt.Sprintf("%s?.value === %q", find(selector), text)
}

// record has the tab write down every text that a cell of the table shows from now on.
func (b *tab) record() {
	b.T.Helper()
	b.Run(`(() => {
		window.recorded = {};
		const look = () => {
			for (const part of document.querySelectorAll("#rows tr[data-id] :is(.field, .text)")) {
				const cell = part.closest("tr").dataset.id + " " + part.closest("th, td").classList[0];
				const texts = (recorded[cell] ??= []);
				const text = part.value ?? part.textContent;
				if (texts.at(-1) !== text) {
					texts.push(text);
				}
			}
		};
		new MutationObserver(look).observe(document.querySelector("#rows"),
			{ subtree: true, childList: true, characterData: true, attributes: true });
		// To the observer the text of a field is no part of the document.
		document.addEventListener("input", look);
		const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
		Object.defineProperty(HTMLInputElement.prototype, "value", { get, set(text) {
			set.call(this, text);
			look();
		} });
		look();
	})()`)
}

// recordSwitch has the tab write down what a switch shows from now on.
func (b *tab) recordSwitch(selector string) {
	b.T.Helper()
	b.Run(`((input) => {
		window.recorded ??= {};
		const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "checked");
		const states = (recorded[input.id + " switch"] = [String(input.checked)]);
		const look = () => states.at(-1) !== String(get.call(input)) && states.push(String(get.call(input)));
		input.addEventListener("change", look);
		Object.defineProperty(input, "checked", { get, set(checked) {
			set.call(this, checked);
			look();
		} });
	})(` + find(selector) + `)`)
}

// checkRecorded fails the test unless a cell has shown these texts, and no others,
// since record.
func (b *tab) checkRecorded(id, cell string, want ...string) {
	b.T.Helper()
	if got := b.recorded(id, cell); !slices.Equal(got, want) {
		b.T.Errorf("the %s was shown as %q, want %q", cell, got, want)
	}
}

func (b *tab) recorded(id, cell string) (texts []string) {
	b.T.Helper()
	text := b.Text(fmt.Sprintf("JSON.stringify(recorded[%q])", id+" "+cell))
	if err := json.Unmarshal([]byte(text), &texts); err != nil {
		b.T.Fatalf("what was recorded of %s: %q: %v", cell, text, err)
	}
	return texts
}

// hold keeps the requests that the tab makes from now on, each until send is
// called, and its answer until answer is.
func (b *tab) hold() {
	b.T.Helper()
	b.Run(`(() => {
		window.held = [];
		const { fetch } = window;
		window.fetch = (...request) => new Promise((resolve, reject) => {
			let answer;
			held.push({
				send: () => (answer = fetch(...request)),
				async answer() {
					await answer.then(resolve, reject);
					setTimeout(() => (this.answered = true), 50); // when the page has read it
				},
			});
		});
	})()`)
}

// send lets a request that is held go to the node, and waits until it was done.
func (b *tab) send(n int) {
	b.T.Helper()
	b.Until("the request", fmt.Sprintf("held.length > %d", n))
	b.Run(fmt.Sprintf("held[%d].send().then(() => (held[%[1]d].done = true)), null", n))
	b.Until("the request to be done", fmt.Sprintf("held[%d].done === true", n))
}

// answer lets the page have the answer to a request that was held.
func (b *tab) answer(n int) {
	b.T.Helper()
	b.Run(fmt.Sprintf("held[%d].answer(), null", n))
}
