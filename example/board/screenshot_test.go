package main

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/entity-sync/entity-sync/test/chromium"
)

// TestScreenshot saves a picture of the board, for the documentation, at the
// path that BOARD_SCREENSHOT gives: a manager on node 1 beside a guest on node
// 2, a moment after a change. BOARD_SCHEME=dark makes it dark. Without a path it
// still checks that there is something to take a picture of.
func TestScreenshot(t *testing.T) {
	t.Parallel()
	scheme := os.Getenv("BOARD_SCHEME")
	if scheme == "" {
		scheme = "light"
	}
	d := startDemo(t, Config{})
	browser := startBrowser(t)
	manager, guest := openTab(t, browser, d.Nodes[0], Manager), openTab(t, browser, d.Nodes[1], Guest)
	for _, b := range []*tab{manager, guest} {
		b.viewport(840, 810, scheme)
		b.Until("all samples", `document.querySelectorAll("#rows tr:not(.flash)").length === 7`)
	}
	for range 12 {
		before := guest.Text(`document.querySelector("#rows tr .quantity input").value`)
		manager.click("#rows tr:first-child .step:last-child")
		guest.Until("one more", `document.querySelector("#rows tr .quantity input").value !== "`+before+`"`)
	}
	guest.click("#rows tr:nth-child(3) .step:first-child")
	manager.Until("one less", `document.querySelector("#rows tr:nth-child(3) .quantity input").value === "63"`)

	left, right := picture(t, manager), picture(t, guest)
	path := os.Getenv("BOARD_SCREENSHOT")
	if path == "" {
		return
	}
	var b bytes.Buffer
	if err := png.Encode(&b, sideBySide(left, right)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func picture(t *testing.T, b *tab) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(chromium.Ask(b.Tab, chromedp.CaptureScreenshot())))
	if err != nil {
		t.Fatal(err)
	}
	if img.Bounds().Dx() != 840 {
		t.Errorf("the picture is %v", img.Bounds())
	}
	return img
}

// sideBySide puts two pictures of one size on one, with a gap between.
func sideBySide(left, right image.Image) image.Image {
	const gap = 12
	l, r := left.Bounds(), right.Bounds()
	both := image.NewRGBA(image.Rect(0, 0, l.Dx()+gap+r.Dx(), max(l.Dy(), r.Dy())))
	draw.Draw(both, both.Bounds(), image.NewUniform(color.Gray{128}), image.Point{}, draw.Src)
	draw.Draw(both, l.Sub(l.Min), left, l.Min, draw.Src)
	draw.Draw(both, r.Sub(r.Min).Add(image.Pt(l.Dx()+gap, 0)), right, r.Min, draw.Src)
	return both
}
