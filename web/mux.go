package web

import (
	"fmt"
	"net/http"

	"github.com/gorilla/mux"
)

// Mux is a router on which a Handler can be mounted.
type Mux interface {
	*mux.Router | *http.ServeMux
}

// Mount makes m serve h at path. It returns an error if m cannot serve the path.
func Mount[M Mux](m M, path string, h http.Handler) (err error) {
	switch m := any(m).(type) {
	case *mux.Router:
		err = m.Handle(path, h).GetError()
	case *http.ServeMux:
		defer func() {
			if r := recover(); r != nil { // a bad pattern, or one that is taken
				err = fmt.Errorf("%v", r)
			}
		}()
		m.Handle(path, h)
	}
	if err != nil {
		return fmt.Errorf("web: serving at %q: %w", path, err)
	}
	return nil
}
