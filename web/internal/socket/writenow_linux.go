//go:build amd64 || arm64

package socket

import (
	"syscall"
	"unsafe"
)

// writeNow writes as much as the socket takes at once, perhaps nothing. It goes around
// the virtual file system, which send(2) does, and the runtime's preparations for a
// system call that waits, which this one is told not to do: a tenth of what writing a
// row to a socket takes.
func writeNow(fd uintptr, b []byte) (n int, err error) {
	const flags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
	for {
		n, _, failed := syscall.RawSyscall6(syscall.SYS_SENDTO,
			fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0) //nolint:gosec // as package unsafe has it in its fourth pattern
		switch failed {
		case 0:
			return int(n), nil
		case syscall.EAGAIN:
			return 0, nil
		case syscall.EINTR:
		default:
			return 0, failed
		}
	}
}
