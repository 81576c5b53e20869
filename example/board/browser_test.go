package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// twoTabs is the board as its banner suggests it: node 1 as a manager, node 2
// as a guest, and an item that both show.
func twoTabs(t *testing.T, c Config) (d *Demo, manager, guest *tab, id string) {
	t.Helper()
	d = startDemo(t, c)
	id = addItem(t, d.Nodes[0], "Kettle")
	browser := startBrowser(t)
	manager, guest = openTab(t, browser, d.Nodes[0], Manager), openTab(t, browser, d.Nodes[1], Guest)
	for _, b := range []*tab{manager, guest} {
		b.until("the item is there", shows(row(id, ".quantity input"), "10"))
		t.Cleanup(b.checkFaults)
	}
	return d, manager, guest, id
}

func TestBrowserEditShowsOnTheOtherNode(t *testing.T) {
	_, manager, guest, id := twoTabs(t, Config{})

	manager.click(row(id, "button[aria-label='One Kettle more']"))
	guest.until("one more", shows(row(id, ".quantity input"), "11"))
	guest.until("the time it took", `/^(<?\d+)$/.test(document.querySelector("#latency").textContent)`)
	guest.until("what it was", `document.querySelector("#latency-note").textContent === "Kettle, written on node 1"`)

	guest.enter(row(id, ".quantity input"), "3")
	manager.until("the quantity that the guest entered", shows(row(id, ".quantity input"), "3"))
	manager.until("the flash of the cell that changed", find(row(id, "td.quantity.flash"))+" !== null")
	manager.until("that stock is low", find(row(id, ".chip"))+`.textContent === "Low"`)

	manager.enter(row(id, ".name input"), "Copper kettle")
	guest.until("the new name", find(row(id, ".name .text"))+`.textContent === "Copper kettle"`)
	manager.enter(row(id, ".price input"), "12,5")
	guest.until("the new price", find(row(id, ".price .text"))+`.textContent === "€12.50"`)
}

func TestBrowserViewsDiffer(t *testing.T) { onEach(t, testBrowserViewsDiffer) }

func testBrowserViewsDiffer(t *testing.T, c Config) {
	d, manager, guest, id := twoTabs(t, c)
	// A cost that no other number can be taken for.
	manager.enter(row(id, ".cost input"), "3217.89")
	manager.until("the cost", shows(row(id, ".cost input"), "3217.89"))
	manager.until("the margin", fmt.Sprintf(`/^-\d+\.\d %%$/.test(%s.textContent)`, find(row(id, ".margin"))))
	guest.click(row(id, "button[aria-label='One Kettle more']"))
	guest.until("one more", shows(row(id, ".quantity input"), "11"))

	checkGuest := func() {
		t.Helper()
		html := guest.text("document.querySelector('main').outerHTML + document.querySelector('#rows').innerText")
		for _, word := range []string{"cost", "Cost", "argin", "3217", "321789"} {
			if strings.Contains(html, word) {
				t.Errorf("the guest's page holds %q", word)
			}
		}
	}
	checkGuest()
	frames := guest.received()
	if len(frames) < len(samples) {
		t.Fatalf("saw %d frames, too few to have seen all", len(frames))
	}
	for _, frame := range frames {
		if strings.Contains(frame, "cost") || strings.Contains(frame, "margin") || strings.Contains(frame, "321789") {
			t.Errorf("the guest received %s", frame)
		}
	}

	// The same tab becomes a manager and a guest again, in the same socket.
	guest.click("input[value=manager]")
	guest.until("the cost as a manager", shows(row(id, ".cost input"), "3217.89"))
	guest.click("input[value=guest]")
	guest.until("a guest's name to read", find(row(id, ".name .text"))+" !== null")
	checkGuest()
	if n := d.Nodes[1].sync.Bridge.Stats().Clients; n != 1 {
		t.Errorf("node 2 has %d clients, want the one it had from the start", n)
	}
}

func TestBrowserAddAndDelete(t *testing.T) { onEach(t, testBrowserAddAndDelete) }

func testBrowserAddAndDelete(t *testing.T, c Config) {
	_, manager, guest, _ := twoTabs(t, c)
	manager.typeInto(".add [name=name]", "<b>Saucer</b>")
	manager.typeInto(".add [name=quantity]", "8")
	manager.typeInto(".add [name=price]", "4.20")
	manager.typeInto(".add [name=cost]", "1")
	manager.click(".add button")
	// The name is text, whatever it looks like.
	last := `document.querySelector("#rows tr:last-child .name .text")?.textContent === "<b>Saucer</b>"`
	guest.until("the new item", last)
	manager.until("that it was added", `document.querySelector("#status").textContent === "“<b>Saucer</b>” was added."`)

	manager.click("#rows tr:last-child button.delete")
	for _, b := range []*tab{manager, guest} {
		b.until("the item to be gone", `!document.querySelector("#rows").textContent.includes("Saucer")`)
		b.until("that it was deleted", `document.querySelector("#status").textContent === "“<b>Saucer</b>” was deleted."`)
	}
}

func TestBrowserCatchesUpAfterBrokerRestart(t *testing.T) {
	d, manager, guest, id := twoTabs(t, Config{})
	if err := d.Broker.Stop(); err != nil {
		t.Fatal(err)
	}
	manager.enter(row(id, ".quantity input"), "77")
	manager.until("that it is saved", `document.querySelector("#status").textContent.startsWith("Saved.")`)
	manager.until("the change, on the node that wrote it", shows(row(id, ".quantity input"), "77"))
	startBroker(t, d.Broker, d.Nodes...)
	guest.until("the change, once NSQ is back", shows(row(id, ".quantity input"), "77"))
}

func TestBrowserReconnects(t *testing.T) {
	d, _, guest, id := twoTabs(t, Config{})
	node := d.Nodes[1]
	addr := node.listener.Addr().String()
	if err := node.closeSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.closeServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	guest.until("that the page is offline, in words", `document.querySelector("#light-text").textContent.startsWith("Offline")`)
	send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"quantity":55}`})

	restartNode(t, d, 1, addr)
	guest.until("that the page is live again", `document.querySelector("#light-text").textContent === "Live"`)
	guest.until("what was missed", shows(row(id, ".quantity input"), "55"))
}

func TestBrowserTypingIsNotOverwritten(t *testing.T) {
	d, manager, guest, id := twoTabs(t, Config{})
	field := row(id, ".quantity input")
	guest.focus(field)
	guest.do(chromedp.KeyEvent("42"))
	manager.click(row(id, "button[aria-label='One Kettle more']"))
	manager.until("one more", shows(field, "11"))
	// A second change of the same row whose arrival can be seen elsewhere in it.
	send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: `{"name":"Pot"}`})
	guest.until("the row as it is now", find(row(id, ".name .text"))+`.textContent === "Pot"`)
	if got := guest.text(find(field) + ".value"); got != "42" {
		t.Errorf("the field being typed in shows %q, want what was typed", got)
	}
	guest.do(chromedp.KeyEvent(kb.Escape))
	guest.until("the row's quantity, after Escape", shows(field, "11"))
}

func TestBrowserShowsErrors(t *testing.T) {
	_, manager, _, id := twoTabs(t, Config{})
	field := row(id, ".quantity input")
	manager.enter(field, "1000000")
	manager.until("what the server says", `document.querySelector("#status.error")?.textContent === "Not saved: the quantity must be from 0 to 999999."`)
	manager.until("which field it is about", find(field)+`.getAttribute("aria-invalid") === "true"`)
	manager.enter(field, "9")
	manager.until("the error to be gone", `document.querySelector("#status").textContent === "" && `+find(field)+`.ariaInvalid === null`)
	manager.enter(row(id, ".price input"), "a lot")
	manager.until("what the page says itself", `document.querySelector("#status.error")?.textContent.includes("“a lot” is not an amount")`)
}

// Everything can be reached and done with the keyboard alone.
func TestBrowserKeyboardOnly(t *testing.T) {
	_, manager, guest, id := twoTabs(t, Config{})
	focused := func(b *tab, selector string) bool { return b.is("document.activeElement === " + find(selector)) }
	tabTo := func(b *tab, selector string) {
		t.Helper()
		for range 200 {
			if focused(b, selector) {
				if b.is(`getComputedStyle(document.activeElement).outlineStyle === "none"`) {
					t.Errorf("%s has the focus and does not show it", selector)
				}
				return
			}
			b.do(chromedp.KeyEvent(kb.Tab))
		}
		t.Fatalf("the Tab key never gets to %s", selector)
	}
	tabTo(guest, row(id, "button[aria-label='One Kettle more']"))
	guest.do(chromedp.KeyEvent(" "))
	manager.until("one more", shows(row(id, ".quantity input"), "11"))

	tabTo(manager, row(id, ".price input"))
	manager.do(chromedp.KeyEvent("7.77\r"))
	guest.until("the new price", find(row(id, ".price .text"))+`.textContent === "€7.77"`)

	tabTo(manager, row(id, ".delete"))
	manager.do(chromedp.KeyEvent("\r"))
	guest.until("the item to be gone", find(row(id))+" === null")
	manager.until("the item to be gone", find(row(id))+" === null")
	if !manager.is(`document.querySelector("#rows").contains(document.activeElement)`) {
		t.Error("the focus is lost after a deletion")
	}
	// Enter saved the price, and leaving the field did not save it again.
	eventually(t, "the deletion's request is known", func() bool { return slices.Contains(manager.requested(), "DELETE") })
	if got := manager.requested(); !slices.Equal(got, []string{"PATCH", "DELETE"}) {
		t.Errorf("the page made the requests %v, want one for each change", got)
	}
}

func TestBrowserPhone(t *testing.T) {
	d, manager, guest, _ := twoTabs(t, Config{})
	long := addItem(t, d.Nodes[0], strings.Repeat("W", maxNameRunes))
	for _, b := range []*tab{manager, guest} {
		b.until("the item with the long name", find(row(long))+" !== null")
	}
	for _, width := range []int64{320, 360, 414} {
		for _, b := range []*tab{manager, guest} {
			b.viewport(width, 740, "light")
			b.until(fmt.Sprintf("the page to fit %d pixels", width), fmt.Sprintf("innerWidth === %d && document.documentElement.scrollWidth <= innerWidth", width))
		}
	}
}

func TestBrowserOtherLink(t *testing.T) {
	d, manager, _, _ := twoTabs(t, Config{})
	if got, want := manager.text(`document.querySelector("#other").href`), d.Nodes[1].URL()+"?as=manager"; got != want {
		t.Errorf("the link leads to %q, want %q", got, want)
	}
}
