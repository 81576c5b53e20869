// Package field names the field of a configuration that an error is about, by its path from
// the configuration that the caller wrote. A part names its own field, and the code that nests
// the part's configuration in another one says where.
package field

import (
	"cmp"
	"errors"
	"fmt"
)

// Error is an error about one field.
type Error struct {
	Config string // the configuration that has the field, such as "es.Config.Web"; empty until In names it
	Name   string // the field's name in it
	Err    error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Config == "" {
		return e.Name + ": " + e.Err.Error()
	}
	return e.Config + "." + e.Name + ": " + e.Err.Error()
}

// Unwrap returns the error without the field's name.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error of the field called name. The text goes on after the name, and
// arguments are formatted as by fmt.Errorf.
func Errorf(name, format string, args ...any) error {
	return &Error{Name: name, Err: fmt.Errorf(format, args...)}
}

// NotNegative returns an error for a value below zero.
func NotNegative[T cmp.Ordered](name string, value T) error {
	var zero T
	if value < zero {
		return Errorf(name, "is %v, and cannot be negative", value)
	}
	return nil
}

// In returns err as an error of the configuration called config. An err that names no field
// is returned as it is.
func In(config string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	return &Error{Config: config, Name: e.Name, Err: e.Err}
}
