//go:build amd64 || arm64

package socket

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// acked returns how many bytes the other end of a TCP connection has acknowledged, and whether
// further bytes wait to be. It is not ok if the kernel does not say.
func acked(fd uintptr) (bytes uint64, waiting, ok bool) {
	const ( // of struct tcp_info, see linux/tcp.h
		unacked    = 24
		bytesAcked = 120
		notSent    = 144
		size       = 148
	)
	var info [size]byte
	length := uint32(size)
	_, _, failed := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0) //nolint:gosec // as package unsafe has it in its fourth pattern
	if failed != 0 || length < size {
		return 0, false, false
	}
	word := func(at int) uint32 { return binary.NativeEndian.Uint32(info[at:]) }
	return binary.NativeEndian.Uint64(info[bytesAcked:]), word(unacked) > 0 || word(notSent) > 0, true
}
