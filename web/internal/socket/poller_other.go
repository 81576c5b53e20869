//go:build !linux

package socket

import (
	"errors"
	"log/slog"
)

// Waiter is resumed when its client has sent something, or is gone.
type Waiter interface{ Resume() }

// Poller is for Linux alone: elsewhere each client keeps its goroutine.
type Poller struct{}

// NewPoller returns a Poller.
func NewPoller(*slog.Logger) *Poller { return new(Poller) }

// Arm returns an error.
func (*Poller) Arm(*Socket, Waiter) error { return errors.ErrUnsupported }

// Forget does nothing.
func (*Poller) Forget(*Socket, Waiter) {}

// Waiting returns 0.
func (*Poller) Waiting() int { return 0 }

// Close does nothing.
func (*Poller) Close() {}
