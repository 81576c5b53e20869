// Package chromium starts a headless Chromium for a test, and drives the pages in its tabs.
package chromium

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

// Options says how a browser is started. The zero value is a browser with a fresh profile.
type Options struct {
	// Profile is the folder of the browser's profile, which the test has prepared. The
	// default is an empty folder.
	Profile string
	// Console has the browser write to the test's output what the pages write to the
	// console.
	Console bool
	// Afresh has the browser load a page anew on the way back to the page. By default
	// the browser may put the page away as it is, and show that page again.
	Afresh bool
	// Explain is a JavaScript expression. Where Tab.Until has waited in vain, the test's
	// output has the expression's value beside the page's text.
	Explain string
}

// Browser is a Chromium that runs until its test ends.
type Browser struct {
	ctx     context.Context
	explain string
}

// Start starts Chromium, and ends it with the test. What Chromium writes goes to the test's
// output. The test fails where Chromium is missing or does not start.
func Start(t testing.TB, o Options) *Browser {
	t.Helper()
	path, err := find()
	if err != nil {
		t.Fatal(err)
	}
	if o.Profile == "" {
		o.Profile = t.TempDir()
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.UserDataDir(o.Profile), chromedp.CombinedOutput(t.Output()), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	if o.Console {
		options = append(options, chromedp.Flag("enable-logging", "stderr"))
	}
	if o.Afresh {
		options = append(options, chromedp.Flag("disable-back-forward-cache", true))
	}
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
	return &Browser{ctx, o.Explain}
}

// names are those of Chromium's program, in the order in which find tries them.
var names = []string{"chromium", "chromium-browser", "google-chrome"}

func find() (path string, err error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("Chromium is missing, and this test drives a page in a browser: install the Debian packages chromium and chromium-sandbox (PATH has none of %q)", names)
}

// Open opens an address in a tab of its own, and waits until the page has loaded. The tab
// closes with the test.
func (b *Browser) Open(t testing.TB, url string) *Tab {
	t.Helper()
	tab := b.Blank(t)
	tab.Do(chromedp.Navigate(url))
	return tab
}

// Blank opens a tab that has no page yet, so that Listen and the like can come before the
// tab's first page. The tab closes with the test.
func (b *Browser) Blank(t testing.TB) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // with the context that lasts: the tab closes with it
		t.Fatalf("opening a tab: %v", err)
	}
	return &Tab{T: t, ctx: ctx, explain: b.explain}
}
