//go:build !linux

package web

import (
	"errors"
	"log/slog"
)

// idlePoller is for Linux alone: elsewhere each session keeps its goroutine.
type idlePoller struct{}

func newIdlePoller(*slog.Logger) *idlePoller { return new(idlePoller) }

func (*idlePoller) arm(*session) error { return errors.ErrUnsupported }
func (*idlePoller) forget(*session)    {}
func (*idlePoller) close()             {}
