package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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
	"github.com/entity-sync/entity-sync/internal/testkit"
)

// startBrowser starts Chromium with a fresh profile, and ends it with the test.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options,
		chromedp.ExecPath(findChromium(t)),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.CombinedOutput(t.Output()),
		chromedp.Flag("enable-logging", "stderr"), // what pages write to the console, too
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-back-forward-cache", true), // a page that is come back to is made anew
		chromedp.Flag("disable-component-update", true),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox does not work for root
	}
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ = chromedp.NewContext(ctx) // Cancel, below, is the gentle form of its cancel
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("closing Chromium: %v", err)
		}
		cancelAllocator()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	return ctx
}

func findChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("Chromium is missing, and this test is about the page in a browser: install the Debian package chromium")
	return ""
}

// tab is one page of the board, open in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	frames   []string // that came over WebSocket
	requests []string // methods of the calls of the API
	faults   []string // exceptions
}

// openTab opens node's page as role in a tab of its own, and waits until it shows rows.
func openTab(t *testing.T, browser context.Context, n *Node, role Role) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("opening a tab: %v", err)
	}
	b.do(
		command(network.Enable, network.EnableParams{}),
		command(runtime.Enable, cdp.Empty{}),
		chromedp.EmulateViewport(1100, 900),
		chromedp.Navigate(n.URL()+"?as="+string(role)),
		chromedp.Evaluate[chromedp.Void](fmt.Sprintf("console.log(%q)", canary.Decoy(canary.Browser))),
	)
	b.until("the page is live and shows rows",
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
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fault := range b.faults {
		b.t.Errorf("the page threw: %s", fault)
	}
}

// command is a command of the browser's protocol that answers nothing.
func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ask(b, chromedp.Steps(actions...))
}

// ask does something in the tab that has an answer.
func ask[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("in the browser: %v", err)
	}
	return result
}

// is evaluates an expression to true or false.
func (b *tab) is(expression string) bool {
	b.t.Helper()
	return ask(b, chromedp.Evaluate[bool](expression))
}

// text evaluates an expression to a string.
func (b *tab) text(expression string) string {
	b.t.Helper()
	return ask(b, chromedp.Evaluate[string]("String("+expression+")"))
}

// until waits until an expression is true.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			b.t.Logf("the page shows:\n%s", b.text("document.body.innerText"))
		}
	}()
	testkit.Until(b.t, what, func() bool { return b.is(expression) })
}

// enter replaces the text of the field that selector finds and presses Enter.
func (b *tab) enter(selector, text string) {
	b.t.Helper()
	b.focus(selector)
	b.do(chromedp.KeyEvent(text + "\r"))
}

// focus puts the cursor into a field and selects what is there.
func (b *tab) focus(selector string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](find(selector) + ".focus(); " + find(selector) + ".select()"))
}

// typeInto types a text into a field as it is.
func (b *tab) typeInto(selector, text string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// recordFlashes notes in flashes which cells flash from now on, as "<id> <field>". A
// flash is over before a slow machine has looked.
func (b *tab) recordFlashes() {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`window.flashes = []; document.addEventListener("animationstart", ({ target }) => {
		if (target.matches("#rows tr[data-id] > .flash")) flashes.push(target.closest("tr").dataset.id + " " + target.classList[0]);
	}); undefined`))
}

// viewport makes the tab the size of a screen, light or dark.
func (b *tab) viewport(width, height int64, scheme string) {
	b.t.Helper()
	b.do(
		chromedp.EmulateViewport(width, height),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
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
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`(() => {
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
	})()`))
}

// recordSwitch has the tab write down what a switch shows from now on.
func (b *tab) recordSwitch(selector string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`((input) => {
		window.recorded ??= {};
		const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "checked");
		const states = (recorded[input.id + " switch"] = [String(input.checked)]);
		const look = () => states.at(-1) !== String(get.call(input)) && states.push(String(get.call(input)));
		input.addEventListener("change", look);
		Object.defineProperty(input, "checked", { get, set(checked) {
			set.call(this, checked);
			look();
		} });
	})(` + find(selector) + `)`))
}

// checkRecorded fails the test unless a cell has shown these texts, and no others,
// since record.
func (b *tab) checkRecorded(id, cell string, want ...string) {
	b.t.Helper()
	if got := b.recorded(id, cell); !slices.Equal(got, want) {
		b.t.Errorf("the %s was shown as %q, want %q", cell, got, want)
	}
}

func (b *tab) recorded(id, cell string) (texts []string) {
	b.t.Helper()
	text := b.text(fmt.Sprintf("JSON.stringify(recorded[%q])", id+" "+cell))
	if err := json.Unmarshal([]byte(text), &texts); err != nil {
		b.t.Fatalf("what was recorded of %s: %q: %v", cell, text, err)
	}
	return texts
}

// hold keeps the requests that the tab makes from now on, each until send is
// called, and its answer until answer is.
func (b *tab) hold() {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`(() => {
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
	})()`))
}

// send lets a request that is held go to the node, and waits until it was done.
func (b *tab) send(n int) {
	b.t.Helper()
	b.until("the request", fmt.Sprintf("held.length > %d", n))
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("held[%d].send().then(() => (held[%[1]d].done = true)), null", n)))
	b.until("the request to be done", fmt.Sprintf("held[%d].done === true", n))
}

// answer lets the page have the answer to a request that was held.
func (b *tab) answer(n int) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("held[%d].answer(), null", n)))
}
