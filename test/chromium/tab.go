package chromium

import (
	"context"
	"errors"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

// Tab is a page that is open in a browser. Each method fails T where the browser refuses
// what the method asks, or takes longer than testkit.Patience.
type Tab struct {
	T testing.TB // the test that opened the tab; a subtest may put itself here

	ctx     context.Context
	explain string
}

// Ask does an action that has a result, and returns the result.
func Ask[T any](b *Tab, action chromedp.Action[T]) T {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testkit.Patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.T.Fatalf("in the browser: %v", err)
	}
	return result
}

// Command is the action that sends a command of the DevTools protocol. The command has no
// result.
func Command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// Do does the actions, one after the other.
func (b *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	b.T.Helper()
	Ask(b, chromedp.Steps(actions...))
}

// Run runs a script in the page. Run does not wait for a promise that the script returns.
func (b *Tab) Run(script string) {
	b.T.Helper()
	b.Do(chromedp.Evaluate[chromedp.Void](script))
}

// Text evaluates an expression in the page, and returns the value as String(value) has it.
func (b *Tab) Text(expression string) string {
	b.T.Helper()
	return Ask(b, text(expression))
}

// Is evaluates an expression in the page, and returns the value as Boolean(value) has it.
func (b *Tab) Is(expression string) bool {
	b.T.Helper()
	return Ask(b, is(expression))
}

func text(expression string) chromedp.Action[string] {
	return chromedp.Evaluate[string]("String(" + expression + ")")
}

func is(expression string) chromedp.Action[bool] {
	return chromedp.Evaluate[bool]("Boolean(" + expression + ")")
}

// Until waits until an expression is true, for testkit.Patience at most. An expression that
// throws is evaluated again, as is one in a page that the browser is leaving. A wait in vain
// fails the test, whose output then has the page's text and the value of Options.Explain.
func (b *Tab) Until(what, expression string) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testkit.Patience)
	defer cancel()
	holds, failure := false, errors.New("the page does not answer")
	testkit.Within(testkit.Patience, func() bool {
		answer, err := chromedp.Run(ctx, is(expression))
		if !errors.Is(err, context.DeadlineExceeded) { // which is ctx's, and says nothing of the page
			failure = err
		}
		holds = err == nil && answer
		return holds || ctx.Err() != nil
	})
	if holds {
		return
	}
	if failure != nil {
		b.T.Logf("in the browser: %v", failure)
	}
	b.log("the page shows:\n", "document.body.innerText")
	if b.explain != "" {
		b.log("", b.explain)
	}
	b.T.Fatalf("waited in vain until %s", what)
}

// log writes the value of an expression to the test's output, or why there is none: what
// the test fails of is said after that.
func (b *Tab) log(before, expression string) {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testkit.Patience/10)
	defer cancel()
	value, err := chromedp.Run(ctx, text(expression))
	if err != nil {
		b.T.Logf("%s cannot be evaluated: %v", expression, err)
		return
	}
	b.T.Logf("%s%s", before, value)
}

// Listen has a function called for each event of the DevTools protocol until the tab
// closes. The calls come from another goroutine, which must not wait for the tab. Network
// events and the like come only once their domain is enabled by a Command.
func (b *Tab) Listen(heard func(event any)) {
	b.T.Helper()
	if err := chromedp.Listen(b.ctx, heard); err != nil {
		b.T.Fatalf("listening to a tab: %v", err)
	}
}

// Close closes the tab before the test ends.
func (b *Tab) Close() {
	b.T.Helper()
	if err := chromedp.Cancel(b.ctx); err != nil {
		b.T.Fatalf("closing a tab: %v", err)
	}
}
