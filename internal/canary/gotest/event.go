package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// event is what go test -json says; see go doc test2json.
type event struct {
	Action, Package, Test, Output string
}

// test is one of a package; the one without a name is the package itself.
type test struct{ pkg, name string }

// decode sends all events of a run, and reads to the end whatever they are, so that
// the run comes to one.
func decode(from io.Reader, to chan<- event) error {
	defer close(to)
	for d := json.NewDecoder(from); ; {
		var e event
		err := d.Decode(&e)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			_, rest := io.Copy(io.Discard, from)
			return errors.Join(fmt.Errorf("reading what go test says: %w", err), rest)
		}
		to <- e
	}
}
