package main

import (
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

func TestBrowserTypingIsNotOverwritten(t *testing.T) {
	t.Parallel()
	d, manager, guest, id := twoTabs(t, Config{})
	field := row(id, ".quantity input")
	guest.focus(field)
	guest.Do(chromedp.KeyEvent("42"))
	manager.click(row(id, "button[aria-label='One Kettle more']"))
	manager.Until("one more", shows(field, "11"))
	// A second change of the same row whose arrival can be seen elsewhere in it.
	send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: `{"name":"Pot"}`})
	guest.Until("the row as it is now", find(row(id, ".name .text"))+`.textContent === "Pot"`)
	if got := guest.Text(find(field) + ".value"); got != "42" {
		t.Errorf("the field being typed in shows %q, want what was typed", got)
	}
	guest.Do(chromedp.KeyEvent(kb.Escape))
	guest.Until("the row's quantity, after Escape", shows(field, "11"))
}

// Somebody deletes the item in whose row somebody else is typing: what was typed is
// not saved, and the cursor goes on to the nearest row that has a place for it.
func TestBrowserTypingInWhatIsDeleted(t *testing.T) {
	t.Parallel()
	d, manager, guest, id := twoTabs(t, Config{})
	private := addPrivate(t, d.Nodes[0], "Prototype")
	guest.Until("the row that is denied", find(row(private)+".denied")+" !== null")
	guest.focus(row(id, ".quantity input"))
	guest.Do(chromedp.KeyEvent("42"))
	manager.click(row(id, ".delete"))
	guest.Until("the item to be gone", find(row(id))+" === null")
	guest.Until("that it was deleted", `document.querySelector("#status").textContent === "“Kettle” was deleted."`)
	if !guest.Is(`document.querySelector("#rows").contains(document.activeElement)`) {
		t.Error("the focus is lost")
	}
	guest.click(row(guest.Text(`document.activeElement.closest("tr").dataset.id`), "button.step:last-child"))
	testkit.Until(t, "a request", func() bool { return len(guest.requested()) > 0 })
	guest.Until("that it was saved", `document.querySelector(".pending") === null`)
	if got := guest.requested(); len(got) != 1 {
		t.Errorf("the page made the requests %v, want none for what is deleted", got)
	}
}

// What means nothing stays in the field, to be put right.
func TestBrowserTypingErrors(t *testing.T) {
	t.Parallel()
	_, manager, guest, id := twoTabs(t, Config{})
	field := row(id, ".price input")
	manager.enter(field, "a lot")
	manager.Until("what is wrong", `document.querySelector("#status.error")?.textContent.includes("“a lot” is not an amount")`)
	manager.Until("which field it is about", find(field)+`.getAttribute("aria-invalid") === "true"`)
	manager.Do(chromedp.KeyEvent(kb.Escape))
	manager.Until("nothing to be wrong any more", `document.querySelector("#status").textContent === "" && `+shows(field, "5.00"))
	manager.enter(field, "a bit")
	manager.Until("what is wrong", `document.querySelector("#status.error")?.textContent.includes("“a bit” is not an amount")`)
	manager.enter(field, "9")
	guest.Until("the new price", find(row(id, ".price .text"))+`.textContent === "€9.00"`)
	manager.Until("the error to be gone", `document.querySelector("#status").textContent === "" && `+find(field)+`.ariaInvalid === null`)
	if got := manager.requested(); !slices.Equal(got, []string{"PATCH"}) {
		t.Errorf("the page made the requests %v, want one, for what has a meaning", got)
	}
}

// Everything can be reached and done with the keyboard alone.
func TestBrowserKeyboardOnly(t *testing.T) {
	t.Parallel()
	_, manager, guest, id := twoTabs(t, Config{})
	focused := func(b *tab, selector string) bool { return b.Is("document.activeElement === " + find(selector)) }
	tabTo := func(b *tab, selector string) {
		t.Helper()
		for range 200 {
			if focused(b, selector) {
				if b.Is(`getComputedStyle(document.activeElement).outlineStyle === "none"`) {
					t.Errorf("%s has the focus and does not show it", selector)
				}
				return
			}
			b.Do(chromedp.KeyEvent(kb.Tab))
		}
		t.Fatalf("the Tab key never gets to %s", selector)
	}
	tabTo(guest, row(id, "button[aria-label='One Kettle more']"))
	guest.Do(chromedp.KeyEvent(" "))
	manager.Until("one more", shows(row(id, ".quantity input"), "11"))

	tabTo(manager, row(id, ".price input"))
	manager.Do(chromedp.KeyEvent("7.77\r"))
	guest.Until("the new price", find(row(id, ".price .text"))+`.textContent === "€7.77"`)

	tabTo(manager, row(id, ".delete"))
	manager.Do(chromedp.KeyEvent("\r"))
	guest.Until("the item to be gone", find(row(id))+" === null")
	manager.Until("the item to be gone", find(row(id))+" === null")
	if !manager.Is(`document.querySelector("#rows").contains(document.activeElement)`) {
		t.Error("the focus is lost after a deletion")
	}
	// Enter saved the price, and leaving the field did not save it again.
	testkit.Until(t, "the deletion's request is known", func() bool { return slices.Contains(manager.requested(), "DELETE") })
	if got := manager.requested(); !slices.Equal(got, []string{"PATCH", "DELETE"}) {
		t.Errorf("the page made the requests %v, want one for each change", got)
	}
}
