package main

import (
	"net"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

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

	guest.click("#bus") // each page may start the bus that another has stopped
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
