package browser

import (
	"testing"

	"github.com/entity-sync/entity-sync/internal/clienttest"
	"github.com/entity-sync/entity-sync/test/chromium"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// The address of a page in a frame's srcdoc is about:srcdoc, to which nothing is
// relative; its base is that of the page around it, or its own <base>.
func TestRelativeAddressesInFrames(t *testing.T) {
	nsqd := nsqdtest.Start(t)
	s := play(t, chromium.Start(t, chromium.Options{Explain: noted}), nsqd, clienttest.Options{}, "secret=me")
	for name, frame := range map[string]struct{ base, url string }{
		"srcdoc":            {"", "ws/entity-sync/"},
		"srcdoc under base": {"<base href='/ws/deeper/'>", "../entity-sync/"},
	} {
		t.Run(name, func(t *testing.T) {
			s.T = t
			s.Run(`{
				window.framed = undefined;
				const frame = document.createElement("iframe");
				frame.srcdoc = "` + frame.base + `<script type=module>import { connect } from '/entity-sync/index.js';" +
					"window.sync = connect('` + frame.url + `', { secret: 'me' });" +
					"sync.subscribe('items', '1', ({ row }) => { parent.framed = [location.href, row?.n].join(' '); });</` + `script>";
				document.body.append(frame);
			}`)
			s.Until("the frame shows the row", "window.framed === 'about:srcdoc 0'")
		})
	}
}
