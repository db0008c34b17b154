package network

import (
	"errors"
	"io"
	"net"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
)

// BenchmarkPublish moves data through a published port in each direction, and
// over loopback alone for comparison.
func BenchmarkPublish(b *testing.B) {
	testenv.Root(b)
	loopback, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer loopback.Close()
	both(b, "loopback", loopback, loopback.Addr().String())
	for name, n := range map[string]*Namespace{"tun": private(b, Options{}), "veth": privateVeth(b, false)} {
		inner := listenInside(b, n, unix.AF_INET, 80)
		p, err := n.Publish(b.Context(), []Port{{HostIP: localhost, ContainerPort: 80, Protocol: "tcp"}})
		if err != nil {
			b.Fatal(err)
		}
		both(b, name, inner, at(p.Ports()[0]))
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	}
}

// both measures the way to a server and back.
func both(b *testing.B, name string, server net.Listener, at string) {
	pairs := func(b *testing.B) (client, accepted net.Conn) {
		client, err := net.Dial("tcp", at)
		if err != nil {
			b.Fatal(err)
		}
		accepted, err = server.Accept()
		if err != nil {
			b.Fatal(err)
		}
		return client, accepted
	}
	b.Run(name+"/in", func(b *testing.B) {
		client, accepted := pairs(b)
		transfer(b, client, accepted)
	})
	b.Run(name+"/out", func(b *testing.B) {
		client, accepted := pairs(b)
		transfer(b, accepted, client)
	})
}

// transfer sends chunks of 128 KiB.
func transfer(b *testing.B, from, to net.Conn) {
	chunk := make([]byte, 128<<10)
	b.SetBytes(int64(len(chunk)))
	read := make(chan error)
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, len(chunk)))
		read <- errors.Join(err, to.Close())
	}()
	b.ResetTimer()
	for range b.N {
		if _, err := from.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(from.Close(), <-read); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPublishDatagrams asks and waits for the answer.
func BenchmarkPublishDatagrams(b *testing.B) {
	testenv.Root(b)
	n := private(b, Options{})
	serveDatagrams(b, n, unix.AF_INET, 80)
	p, err := n.Publish(b.Context(), []Port{{HostIP: localhost, ContainerPort: 80, Protocol: "udp"}})
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{100, 60000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			c := dialUDP(b, at(p.Ports()[0]))
			data, buf := make([]byte, size), make([]byte, maxDatagram)
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := c.Write(data); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	if err := p.Close(); err != nil {
		b.Error(err)
	}
}
