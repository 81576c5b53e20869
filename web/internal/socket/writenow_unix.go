//go:build unix && !(linux && (amd64 || arm64))

package socket

import (
	"errors"
	"syscall"
)

// writeNow writes as much as the socket takes at once, perhaps nothing.
func writeNow(fd uintptr, b []byte) (n int, err error) {
	for {
		n, err = syscall.Write(int(fd), b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		case !errors.Is(err, syscall.EINTR):
			return 0, err
		}
	}
}
