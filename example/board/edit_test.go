package main

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

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

// confirmed is the expression for a row of which nothing waits to be written.
func confirmed(id string) string { return find(row(id, ".pending")) + " === null" }
