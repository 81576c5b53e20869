//go:build amd64 || arm64

package socket

import (
	"syscall"
	"unsafe"
)

// writeNow writes as much as the socket takes at once, perhaps nothing. It uses send(2), which
// avoids the virtual file system, and skips the runtime's preparations for a system call that
// blocks, because this one does not. That saves a tenth of the cost of writing a row.
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
