package chromium

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestThatChromiumIsMissingSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if path, err := find(); err == nil || !strings.Contains(err.Error(), "install the Debian packages chromium and chromium-sandbox") {
		t.Errorf("found %q, with the error %v", path, err)
	}
}

func TestATab(t *testing.T) {
	browser := Start(t, Options{})
	tab := browser.Open(t, "data:text/html,<title>one</title>")
	if got := tab.Text("document.title"); got != "one" {
		t.Errorf("the title is %q", got)
	}
	if tab.Is("window.missing") || !tab.Is("document.title") {
		t.Error("Is does not say what Boolean does")
	}
	tab.Run("void setTimeout(() => { location.href = 'about:blank' }, 10)")
	tab.Until("the page is left", "location.href === 'about:blank'")
	tab.Run("void setTimeout(() => { window.later = { is: true } }, 10)")
	tab.Until("what throws at first holds", "window.later.is")
	tab.Close()
	browser.Blank(t).Until("another tab answers", "true")
}
