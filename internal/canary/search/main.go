// Command search looks for the tests' secrets in everything that a run of them has
// left in a folder, and fails where it finds one.
package main

import (
	"fmt"
	"os"

	"github.com/entity-sync/entity-sync/internal/canary"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: search FOLDER")
		os.Exit(2)
	}
	r, err := canary.Find(os.DirFS(os.Args[1]))
	for _, hit := range r.Hits {
		fmt.Fprintf(os.Stderr, "a secret got out: %s/%s\n", os.Args[1], hit)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "searching for secrets:", err)
	}
	if err != nil || len(r.Hits) > 0 {
		os.Exit(1)
	}
	fmt.Printf("no secret in the %d files, %.1f MB, that the tests wrote\n", r.Files, float64(r.Bytes)/1e6)
}
