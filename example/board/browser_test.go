package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/entity-sync/entity-sync/internal/testkit"
	"github.com/entity-sync/entity-sync/internal/testkit/docs"
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
		b.Until("the item is there", shows(row(id, ".quantity input"), "10"))
		t.Cleanup(b.checkFaults)
	}
	return d, manager, guest, id
}

func TestBrowserEditShowsOnTheOtherNode(t *testing.T) {
	t.Parallel()
	_, manager, guest, id := twoTabs(t, Config{})

	manager.click(row(id, "button[aria-label='One Kettle more']"))
	guest.Until("one more", shows(row(id, ".quantity input"), "11"))
	guest.Until("the time it took", `/^(<?\d+)$/.test(document.querySelector("#latency").textContent)`)
	guest.Until("what it was", `document.querySelector("#latency-note").textContent === "Kettle, written on node 1"`)

	manager.recordFlashes()
	guest.enter(row(id, ".quantity input"), "3")
	manager.Until("the quantity that the guest entered", shows(row(id, ".quantity input"), "3"))
	manager.Until("the flash of the cell that changed", fmt.Sprintf(`flashes.includes("%s quantity")`, id))
	manager.Until("that stock is low", find(row(id, ".chip"))+`.textContent === "Low"`)

	manager.enter(row(id, ".name input"), "Copper kettle")
	guest.Until("the new name", find(row(id, ".name .text"))+`.textContent === "Copper kettle"`)
	manager.enter(row(id, ".price input"), "12,5")
	guest.Until("the new price", find(row(id, ".price .text"))+`.textContent === "€12.50"`)
}

func TestBrowserViewsDiffer(t *testing.T) { onEachAtOnce(t, testBrowserViewsDiffer) }

func testBrowserViewsDiffer(t *testing.T, c Config) {
	d, manager, guest, id := twoTabs(t, c)
	// A cost that no other number can be taken for.
	manager.enter(row(id, ".cost input"), "3217.89")
	manager.Until("the cost", shows(row(id, ".cost input"), "3217.89"))
	manager.Until("the margin", fmt.Sprintf(`/^-\d+\.\d %%$/.test(%s.textContent)`, find(row(id, ".margin"))))
	guest.click(row(id, "button[aria-label='One Kettle more']"))
	guest.Until("one more", shows(row(id, ".quantity input"), "11"))

	checkGuest := func() {
		t.Helper()
		html := guest.Text("document.querySelector('main').outerHTML + document.querySelector('#rows').innerText")
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

	// The same tab becomes a manager and a guest again, and nothing of either is left.
	guest.click("input[value=manager]")
	guest.Until("the cost as a manager", shows(row(id, ".cost input"), "3217.89"))
	guest.click("input[value=guest]")
	guest.Until("a guest's name to read", find(row(id, ".name .text"))+" !== null")
	checkGuest()
	testkit.Until(t, "node 2 has one client, as before", func() bool { return d.Nodes[1].sync.Bridge.Stats().Clients == 1 })
}

func TestBrowserAddAndDelete(t *testing.T) { onEachAtOnce(t, testBrowserAddAndDelete) }

func testBrowserAddAndDelete(t *testing.T, c Config) {
	_, manager, guest, _ := twoTabs(t, c)
	manager.typeInto(".add [name=name]", "<b>Saucer</b>")
	manager.typeInto(".add [name=quantity]", "8")
	manager.typeInto(".add [name=price]", "4.20")
	manager.typeInto(".add [name=cost]", "1")
	manager.click(".add button")
	// The name is text, whatever it looks like.
	last := `document.querySelector("#rows tr:last-child .name .text")?.textContent === "<b>Saucer</b>"`
	guest.Until("the new item", last)
	manager.Until("that it was added", `document.querySelector("#status").textContent === "“<b>Saucer</b>” was added."`)

	manager.Until("the new item", `document.querySelector("#rows tr:last-child .name .field")?.value === "<b>Saucer</b>"`)
	manager.click("#rows tr:last-child button.delete")
	for _, b := range []*tab{manager, guest} {
		b.Until("the item to be gone", `!document.querySelector("#rows").textContent.includes("Saucer")`)
		b.Until("that it was deleted", `document.querySelector("#status").textContent === "“<b>Saucer</b>” was deleted."`)
	}
}

// Who is in a hurry and clicks twice adds one item, and deletes one.
func TestBrowserAddAndDeleteOnce(t *testing.T) {
	t.Parallel()
	d, manager, guest, id := twoTabs(t, Config{})
	manager.hold()
	manager.typeInto(".add [name=name]", "Saucer")
	manager.click(".add button")
	manager.click(".add button")
	manager.Until("the request", "held.length > 0")
	manager.send(0)
	manager.answer(0)
	manager.Until("that it was added", `document.querySelector("#status").textContent === "“Saucer” was added."`)
	manager.typeInto(".add [name=name]", "Spoon")
	manager.click(".add button")
	manager.send(1)
	manager.answer(1)
	guest.Until("both", fmt.Sprintf("document.querySelectorAll('#rows tr').length === %d", len(samples)+3))

	manager.click(row(id, ".delete"))
	manager.click(row(id, ".delete"))
	manager.send(2)
	manager.answer(2)
	manager.Until("the item to be gone", find(row(id))+" === null")
	if got, want := manager.requested(), []string{"POST", "POST", "DELETE"}; !slices.Equal(got, want) {
		t.Errorf("the page made the requests %v, want %v", got, want)
	}
	if manager.Is("held.length !== 3") {
		t.Errorf("the page would make %s requests, want 3", manager.Text("held.length"))
	}

	// What could not be deleted can be tried again.
	other := addItem(t, d.Nodes[0], "Scale")
	manager.Until("the other item", find(row(other))+" !== null")
	manager.click("#offline")
	manager.click(row(other, ".delete"))
	manager.Until("that it cannot be deleted", `document.querySelector("#status.error")?.textContent === "Not deleted: the node cannot be reached."`)
	manager.click("#offline")
	manager.click(row(other, ".delete"))
	manager.send(3)
	manager.Until("the other item to be gone", find(row(other))+" === null")
}

// What only managers may see is there for everybody, and denied to guests.
func TestBrowserDeniedRow(t *testing.T) { onEachAtOnce(t, testBrowserDeniedRow) }

func testBrowserDeniedRow(t *testing.T, c Config) {
	_, manager, guest, _ := twoTabs(t, c)
	manager.typeInto(".add [name=name]", "Prototype")
	manager.typeInto(".add [name=cost]", "3217.89")
	manager.click(".add [name=private]")
	manager.click(".add button")
	manager.Until("the new item", `document.querySelector("#rows tr:last-child .name .field")?.value === "Prototype"`)
	id := manager.Text(`document.querySelector("#rows tr:last-child").dataset.id`)

	denied := find(row(id)+".denied .chip") + `?.textContent === "Denied"`
	guest.Until("that it is denied", denied)
	guest.Until("the rows above it", fmt.Sprintf("document.querySelectorAll('#rows tr').length === %d", len(samples)+2))
	checkGuest := func() {
		t.Helper()
		if guest.Is(`document.documentElement.outerHTML.includes("Prototype")`) {
			t.Error("the guest's page holds the name")
		}
	}
	checkGuest()
	for _, frame := range guest.received() {
		if strings.Contains(frame, "Prototype") || strings.Contains(frame, "321789") {
			t.Errorf("the guest received %s", frame)
		}
	}

	guest.click("input[value=manager]")
	guest.Until("the item as a manager", find(row(id, ".name .field"))+`?.value === "Prototype"`)
	guest.click("input[value=guest]")
	guest.Until("that it is denied again", denied)
	checkGuest()

	manager.click(row(id, ".delete"))
	guest.Until("the item to be gone", find(row(id))+" === null")
}

func TestBrowserPhone(t *testing.T) {
	t.Parallel()
	d, manager, guest, _ := twoTabs(t, Config{})
	long := addItem(t, d.Nodes[0], strings.Repeat("W", maxNameRunes))
	for _, b := range []*tab{manager, guest} {
		b.Until("the item with the long name", find(row(long))+" !== null")
	}
	for _, width := range []int64{320, 360, 414} {
		for _, b := range []*tab{manager, guest} {
			b.viewport(width, 740, "light")
			b.Until(fmt.Sprintf("the page to fit %d pixels", width), fmt.Sprintf("innerWidth === %d && document.documentElement.scrollWidth <= innerWidth", width))
		}
	}
}

// What docs/classic.md has for pages on the classic wire is so.
func TestBrowserClassicWire(t *testing.T) {
	t.Parallel()
	snippet := docs.Block(t, "docs/classic.md", "js page") + "\n"
	d, _, guest, id := twoTabs(t, Config{})
	snippet = strings.NewReplacer("my session token", guestSecret, `"items"`, `"`+string(itemEntity)+`"`, `"100"`, `"`+id+`"`).Replace(snippet)
	guest.Run("(() => { const show = (row) => (window.classic = row);\n" + snippet + "})()")
	guest.Until("the snapshot", "window.classic?.quantity === 10")
	send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"add":1}`})
	guest.Until("the change", "window.classic?.quantity === 11")
}

func TestBrowserOtherLink(t *testing.T) {
	t.Parallel()
	d, manager, _, _ := twoTabs(t, Config{})
	if got, want := manager.Text(`document.querySelector("#other").href`), d.Nodes[1].URL()+"?as=manager"; got != want {
		t.Errorf("the link leads to %q, want %q", got, want)
	}
}
