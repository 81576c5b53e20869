package main

import (
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// silence is how long nothing is seen at most.
const silence = 8 * time.Second

// progress passes on what is printed, and says what is under way when nothing has been
// for a while: in lines, which read the same in a file.
type progress struct {
	to         io.Writer
	begin, was time.Time // was is when something was seen last
}

func newProgress(to io.Writer) *progress {
	now := time.Now()
	return &progress{to, now, now}
}

func (p *progress) Write(text []byte) (int, error) {
	p.was = time.Now()
	return p.to.Write(text)
}

func (p *progress) tick(w *watch) {
	if time.Since(p.was) < silence {
		return
	}
	fmt.Fprintf(p, "   %.0f s: %s\n", time.Since(p.begin).Seconds(), underWay(w))
}

// underWay says it in a line that is not too long.
func underWay(w *watch) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(w.packages)) {
		says := path.Base(name)
		if tests := w.packages[name].underWay(); len(tests) > 0 && tests[0] != "" {
			says += " " + tests[0]
		}
		all = append(all, says)
	}
	if len(all) == 0 {
		all = []string{"compiling"}
	}
	const most = 100
	line := strings.Join(all, ", ")
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + " …"
	}
	return fmt.Sprintf("%s (%d packages done)", line, w.done)
}
