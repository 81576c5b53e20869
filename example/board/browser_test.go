package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

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

// Both nodes lose the bus; their pages say so, go on, and are right when it is back.
func TestBrowserBusStopped(t *testing.T) { onEach(t, testBrowserBusStopped) }

func testBrowserBusStopped(t *testing.T, c Config) {
	d, manager, guest, id := twoTabs(t, c)
	other := addItem(t, d.Nodes[0], "Scale")
	both := []*tab{manager, guest}
	for _, b := range both {
		b.Until("the other item", shows(row(other, ".quantity input"), "10"))
		b.record()
		b.recordSwitch("#bus")
	}

	manager.click("#bus")
	for _, b := range both {
		b.Until("that what is shown may be stale", `document.querySelector("#light-text").textContent === "Stale" &&
			document.querySelector("#warning").textContent.includes("may be out of date")`)
		b.Until("that the bus is stopped", `document.querySelector("#bus").checked`)
	}
	manager.click(row(id, "button[aria-label='One Kettle more']"))
	manager.Until("the change, on the node that wrote it", shows(row(id, ".quantity input"), "11")+" && "+confirmed(id))
	guest.click(row(other, "button[aria-label='One Scale more']"))
	guest.Until("the change, on the node that wrote it", shows(row(other, ".quantity input"), "11")+" && "+confirmed(other))
	if c.DatabaseURL == "" { // else it is in the outbox, and all is said
		manager.Until("that it is saved, and not known everywhere", `document.querySelector("#status").textContent.startsWith("Saved. The other node will hear of it")`)
		guest.Until("that on the other node, too", `document.querySelector("#status.waiting") !== null`)
		manager.typeInto(".add [name=name]", "Spoon")
		manager.click(".add button")
		manager.Until("that of what is added, too", `document.querySelector("#status").textContent.startsWith("“Spoon” was added. The other node will hear of it")`)
	}

	guest.click("#bus") // whoever stopped it
	for _, b := range both {
		b.Until("what was missed", shows(row(id, ".quantity input"), "11")+" && "+shows(row(other, ".quantity input"), "11"))
		b.Until("that all is well", `document.querySelector("#light-text").textContent === "Live" &&
			document.querySelector("#warning").textContent === "" && !document.querySelector("#bus").checked`)
		b.Until("that nothing waits for the bus", `document.querySelector("#status").textContent === ""`)
		b.checkRecorded(id, "quantity", "10", "11")
		b.checkRecorded(other, "quantity", "10", "11")
		b.checkRecorded("bus", "switch", "false", "true", "false")
	}
	manager.click(row(id, "button[aria-label='One Kettle more']"))
	guest.Until("a change as ever", shows(row(id, ".quantity input"), "12"))
}

// An nsqd that does not end does not keep the switch from answering: the page says so,
// shows that the bus is gone, and can start another.
func TestBrowserBusStuck(t *testing.T) {
	d, manager, guest, id := twoTabs(t, Config{})
	held, err := net.Dial("tcp", d.Broker.nsqd.Behind())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	manager.click("#bus")
	manager.Until("that nsqd does not end", `document.querySelector("#status.error")?.textContent.startsWith(
		"Switching the bus failed: the nodes have lost the bus, but it did not end cleanly: nsqd does not end: waited for 3s") === true`) // and a busy machine says more
	for _, b := range []*tab{manager, guest} {
		b.Until("that the bus is stopped", `document.querySelector("#bus").checked`)
	}
	manager.click("#bus")
	for _, b := range []*tab{manager, guest} {
		b.Until("that all is well", `document.querySelector("#light-text").textContent === "Live" && !document.querySelector("#bus").checked`)
	}
	manager.click(row(id, "button[aria-label='One Kettle more']"))
	guest.Until("a change as ever", shows(row(id, ".quantity input"), "11"))
}

// The page is cut off while others write, and shows what it knew until it is back;
// then it asks for what it missed, and for nothing else.
func TestBrowserOffline(t *testing.T) {
	t.Parallel()
	d, _, guest, id := twoTabs(t, Config{})
	still := addItem(t, d.Nodes[0], "Scale")
	guest.Until("the other item", shows(row(still, ".quantity input"), "10"))
	guest.record()
	before := len(guest.received())

	guest.click("#offline")
	guest.Until("that the page is offline, in words", `document.querySelector("#light-text").textContent === "Offline" &&
		document.querySelector("#warning").textContent.includes("not connected")`)
	testkit.Until(t, "the node has noticed", func() bool { return d.Nodes[1].sync.Bridge.Stats().Clients == 0 })
	for range 100 {
		send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"add":1}`})
	}
	guest.click(row(still, "button[aria-label='One Scale more']"))
	guest.Until("that nothing can be saved", `document.querySelector("#status.error")?.textContent === "Not saved: the node cannot be reached."`)

	guest.click("#offline")
	guest.Until("what was missed", shows(row(id, ".quantity input"), "110"))
	guest.Until("that all is well", `document.querySelector("#light-text").textContent === "Live" && document.querySelector("#warning").textContent === ""`)
	guest.checkRecorded(id, "quantity", "10", "110")
	guest.checkRecorded(still, "quantity", "10", "11", "10") // the edit that was taken back
	guest.checkRecorded(still, "name", "Scale")
	for _, frame := range guest.received()[before:] {
		if strings.Contains(frame, "Scale") {
			t.Errorf("what the page had was sent again: %s", frame)
		}
	}
}

// Browsers put switches back to what they were when somebody comes back to a page,
// which begins anew.
func TestBrowserOfflineAndBack(t *testing.T) {
	t.Parallel()
	d, _, guest, _ := twoTabs(t, Config{})
	guest.click("#offline")
	guest.Until("that the page is offline", `document.querySelector("#light").dataset.state === "offline"`)
	guest.Run("window.before = true, null")
	guest.Do(chromedp.Navigate(d.Nodes[1].URL() + "assets/icon.svg"))
	guest.Do(chromedp.NavigateBack()) // waits for the page: one that is being left cannot be asked
	guest.Until("the page, made anew", `!window.before && document.querySelectorAll("#rows tr").length > 0`)
	if guest.Is(`document.querySelector("#offline").checked !== (document.querySelector("#light").dataset.state === "offline")`) {
		t.Errorf("the switch says offline: %s, the page: %s", guest.Text(`document.querySelector("#offline").checked`), guest.Text(`document.querySelector("#light").dataset.state`))
	}
}

// What was entered is shown from then on, whatever arrives before the row that came
// of it; what was written after it is shown then.
func TestBrowserEditNeverFlickers(t *testing.T) {
	t.Parallel()
	d, manager, guest, id := twoTabs(t, Config{})
	field := row(id, ".quantity input")
	// somebodyElse writes the quantity on the other node; the name shows that it is here.
	somebodyElse := func(quantity int, name string) {
		t.Helper()
		send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: managerSecret, body: fmt.Sprintf(`{"quantity":%d,"name":%q}`, quantity, name)})
		guest.Until("that row", find(row(id, ".name .text"))+fmt.Sprintf(".textContent === %q", name))
	}
	guest.record()
	guest.hold()

	guest.enter(field, "42")
	guest.Until("what was entered, as not known yet", shows(field, "42")+" && !("+confirmed(id)+")")
	somebodyElse(20, "An older echo")
	guest.send(0)
	manager.Until("what the guest entered", shows(field, "42"))
	somebodyElse(30, "Something newer")
	if got := guest.Text(find(field) + ".value"); got != "42" {
		t.Errorf("the guest's page shows %q before the answer, want what was entered", got)
	}
	guest.answer(0)
	guest.Until("what was written later", shows(field, "30")+" && "+confirmed(id))
	guest.checkRecorded(id, "quantity", "10", "4", "42", "30")

	// Several edits of one row: the rows of the first come while the last is shown.
	for range 3 {
		guest.click(row(id, "button[aria-label='One Something newer more']"))
	}
	guest.Until("all of them", shows(field, "33"))
	for n := range 3 {
		guest.send(1 + n)
		manager.Until("the edit", shows(field, fmt.Sprint(31+n)))
		guest.answer(1 + n)
	}
	guest.Until("that all are written", confirmed(id))
	guest.checkRecorded(id, "quantity", "10", "4", "42", "30", "31", "32", "33")
}

// The answer to an edit is here and its row is not: the connection was lost between
// the two.
func TestBrowserEditThenOffline(t *testing.T) {
	t.Parallel()
	_, manager, guest, id := twoTabs(t, Config{})
	field := row(id, ".quantity input")
	guest.record()
	guest.hold()
	guest.click(row(id, "button[aria-label='One Kettle more']"))
	guest.Until("the request", "held.length === 1")
	guest.click("#offline")
	guest.Until("that the page is offline", `document.querySelector("#light").dataset.state === "offline"`)
	guest.send(0)
	guest.answer(0)
	guest.Until("that it has the answer", `held[0].answered === true`)
	if !guest.Is(shows(field, "11") + " && !(" + confirmed(id) + ")") {
		t.Errorf("the guest's page shows %q, want what was entered, as not known yet", guest.Text(find(field)+".value"))
	}
	manager.click(row(id, "button[aria-label='One Kettle more']"))
	manager.Until("both steps", shows(field, "12")+" && "+confirmed(id))

	guest.click("#offline")
	guest.Until("both steps", shows(field, "12")+" && "+confirmed(id))
	guest.checkRecorded(id, "quantity", "10", "11", "12")
}

// Two people add to one row as fast as they can. Neither ever sees it go back.
func TestBrowserBurstOfEdits(t *testing.T) { onEachAtOnce(t, testBrowserBurstOfEdits) }

func testBrowserBurstOfEdits(t *testing.T, c Config) {
	_, manager, guest, id := twoTabs(t, c)
	both := []*tab{manager, guest}
	const each = 25
	for _, b := range both {
		b.record()
	}
	for range each / 5 {
		for _, b := range both {
			b.Run(`for (let i = 0; i < 5; i++) ` + find(row(id, "button[aria-label='One Kettle more']")) + `.click()`)
		}
	}
	for _, b := range both {
		b.Until("all of it", shows(row(id, ".quantity input"), fmt.Sprint(10+2*each))+" && "+confirmed(id))
		last := 0
		for _, text := range b.recorded(id, "quantity") {
			n, err := strconv.Atoi(text)
			if err != nil || n < last {
				t.Errorf("the quantity was shown as %q after %d", text, last)
			}
			last = n
		}
	}
}

func TestBrowserRefusedEditIsTakenBack(t *testing.T) {
	t.Parallel()
	_, manager, guest, id := twoTabs(t, Config{})
	for _, b := range []*tab{manager, guest} {
		b.record()
	}
	manager.enter(row(id, ".quantity input"), "1000000")
	manager.Until("why not", `document.querySelector("#status.error")?.textContent === "Not saved: the quantity must be from 0 to 999999."`)
	manager.Until("what it was", shows(row(id, ".quantity input"), "10")+" && "+confirmed(id))
	if got := manager.recorded(id, "quantity"); !slices.Equal(got[len(got)-2:], []string{"1000000", "10"}) {
		t.Errorf("the quantity was shown as %q, want what was entered and then what it was", got)
	}
	manager.enter(row(id, ".quantity input"), "9")
	manager.Until("the error to be gone", `document.querySelector("#status").textContent === ""`)
	guest.Until("the quantity that was taken", shows(row(id, ".quantity input"), "9"))
	guest.checkRecorded(id, "quantity", "10", "9")
}

// An answer that comes when somebody else looks is none of theirs.
func TestBrowserAnswerAfterChangeOfRole(t *testing.T) {
	t.Parallel()
	_, manager, guest, id := twoTabs(t, Config{})
	manager.hold()
	manager.enter(row(id, ".cost input"), "3217.89")
	manager.send(0)
	manager.click("input[value=guest]")
	manager.Until("a guest's name to read", find(row(id, ".name .text"))+" !== null")
	manager.answer(0)
	guest.click(row(id, "button[aria-label='One Kettle more']"))
	manager.Until("a change after that", shows(row(id, ".quantity input"), "11"))
	if manager.Is(`document.querySelector("#status.error") !== null`) {
		t.Errorf("the page complains: %s", manager.Text(`document.querySelector("#status").textContent`))
	}
	if manager.Is(find(row(id, ".cost")) + " !== null") {
		t.Error("the guest's page shows a cost")
	}
	if got := manager.Text("document.querySelectorAll('#rows tr').length"); got != fmt.Sprint(len(samples)+1) {
		t.Errorf("the page has %s rows, want %d", got, len(samples)+1)
	}
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
	guest.Until("that the page is offline, in words", `document.querySelector("#light-text").textContent === "Offline"`)
	send(t, d.Nodes[0], request{method: "PATCH", path: "/api/items/" + id, secret: guestSecret, body: `{"quantity":55}`})

	restartNode(t, d, 1, addr)
	guest.Until("that the page is live again", `document.querySelector("#light-text").textContent === "Live"`)
	guest.Until("what was missed", shows(row(id, ".quantity input"), "55"))
}

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

// confirmed is the expression for a row of which nothing waits to be written.
func confirmed(id string) string { return find(row(id, ".pending")) + " === null" }
