//go:build !linux

package web

import (
	"errors"
	"log/slog"
)

// parking is for Linux alone: elsewhere each session keeps its goroutine.
type parking struct{}

func newParking(*slog.Logger) *parking { return new(parking) }

func (*parking) watch(*session) error { return errors.ErrUnsupported }
func (*parking) forget(*session)      {}
func (*parking) close()               {}
