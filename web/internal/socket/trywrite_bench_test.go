package socket

import (
	"io"
	"net"
	"testing"
)

// BenchmarkWrite is one frame to one client that has room for it, as a flusher writes it
// and as the connection itself does.
func BenchmarkWrite(b *testing.B) {
	const atOnce = 100 // before the client reads
	frame := make([]byte, 350)
	for _, by := range []struct {
		name  string
		write func(*net.TCPConn) func() error
	}{
		{"TryWrite", func(conn *net.TCPConn) func() error {
			s, room := New(conn), NewScratch()
			frames := make(net.Buffers, 1)
			return func() error {
				frames[0] = frame
				_, err := s.TryWrite(room, frames)
				return err
			}
		}},
		{"connection", func(conn *net.TCPConn) func() error {
			return func() error {
				_, err := conn.Write(frame)
				return err
			}
		}},
	} {
		b.Run(by.name, func(b *testing.B) {
			server, client := sockets(b)
			write := by.write(server)
			read := make([]byte, atOnce*len(frame))
			b.ReportAllocs()
			for i := range b.N {
				if err := write(); err != nil {
					b.Fatal(err)
				}
				if (i+1)%atOnce == 0 {
					b.StopTimer()
					if _, err := io.ReadFull(client, read); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
		})
	}
}
