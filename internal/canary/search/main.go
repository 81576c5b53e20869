// Command search looks for the tests' secrets in everything that a run of them has
// left in a folder, and fails where it finds one.
//
//	search [-only PLACE,... | -without PLACE,...] FOLDER
//
// It fails as well where one of the places that tests write to was not searched. -only and
// -without are for a run of some of the tests, which write to some of the places.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/entity-sync/entity-sync/internal/canary"
)

func main() {
	only := flag.String("only", "", "the places that must have been searched, with commas between")
	without := flag.String("without", "", "the places that need not have been")
	flag.Parse()
	places, err := choose(*only, *without)
	if err != nil || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: search [-only PLACE,... | -without PLACE,...] FOLDER:", err)
		os.Exit(2)
	}
	folder := flag.Arg(0)
	r, err := canary.Find(os.DirFS(folder), places...)
	for _, hit := range r.Hits {
		fmt.Fprintf(os.Stderr, "a secret got out: %s/%s\n", folder, hit)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "searching for secrets:", err)
	}
	if err != nil || len(r.Hits) > 0 {
		os.Exit(1)
	}
	fmt.Printf("no secret in the %d files, %.1f MB, that the tests wrote\n", r.Files, float64(r.Bytes)/1e6)
}

// choose returns the places that must have been searched.
func choose(only, without string) ([]canary.Place, error) {
	all := canary.Places()
	named, err := parse(only + "," + without)
	switch {
	case err != nil:
		return nil, err
	case only != "" && without != "":
		return nil, fmt.Errorf("-only and -without exclude each other")
	case only != "":
		return named, nil
	}
	return slices.DeleteFunc(all, func(p canary.Place) bool { return slices.Contains(named, p) }), nil
}

func parse(names string) (places []canary.Place, err error) {
	for name := range strings.SplitSeq(names, ",") {
		p := canary.Place(name)
		switch {
		case name == "":
		case !slices.Contains(canary.Places(), p):
			return nil, fmt.Errorf("there is no place %q", name)
		default:
			places = append(places, p)
		}
	}
	return places, nil
}
