//go:build !unix

package pgtest

import "syscall"

// unprivileged has PostgreSQL run by the user who runs the test.
func unprivileged(string) (*syscall.SysProcAttr, error) { return nil, nil }
