package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
)

// inside runs fn on a thread that has entered ns.
func inside(t testing.TB, ns *os.File, fn func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// dialInside connects from within ns. The socket is made on the thread that
// entered it, hence the raw calls.
func dialInside(t *testing.T, ns *os.File, kind int, to netip.AddrPort) (net.Conn, error) {
	t.Helper()
	var conn net.Conn
	err := inside(t, ns, func() error {
		s, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		tv := unix.NsecToTimeval((10 * time.Second).Nanoseconds())
		if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
			return err
		}
		if err := unix.Connect(s, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
			unix.Close(s)
			return err
		}
		f := os.NewFile(uintptr(s), "socket")
		defer f.Close()
		conn, err = net.FileConn(f)
		return err
	})
	return conn, err
}

// hostAddress is an address of this machine that is not loopback.
func hostAddress(t *testing.T) netip.Addr {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr()
		}
	}
	testenv.Full(t, "an address other than loopback")
	t.Fatal("this machine has no IPv4 address other than loopback")
	return netip.Addr{}
}

// echoServer answers each connection with what it got, upper-cased at the end
// of the input, so that half-closing is tested too.
func echoServer(t *testing.T, addr netip.Addr) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				data, err := io.ReadAll(c)
				if err == nil {
					_, _ = io.WriteString(c, strings.ToUpper(string(data)))
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func exchange(c net.Conn, text string) (string, error) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

func private(t testing.TB, opt Options) *Namespace {
	t.Helper()
	p, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	n, err := p.Namespace(t.Context(), Private)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestPrivateReachesTheHostsNetwork(t *testing.T) {
	testenv.Root(t)
	checkTCP(t, private(t, Options{}))
}

func checkTCP(t *testing.T, n *Namespace) {
	t.Helper()
	server := echoServer(t, hostAddress(t))
	c, err := dialInside(t, n.NS(), unix.SOCK_STREAM, server)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("a long message, ", 1<<16) // 1 MiB: more than any buffer
	got, err := exchange(c, text)
	if err != nil || got != strings.ToUpper(text) {
		t.Errorf("got %d bytes, %v; want the %d bytes upper-cased", len(got), err, len(text))
	}
}

func TestPrivateDoesNotReachTheHostsLoopback(t *testing.T) {
	testenv.Root(t)
	n := private(t, Options{})
	server := echoServer(t, netip.MustParseAddr("127.0.0.1"))
	for _, addr := range []netip.Addr{server.Addr(), GatewayIP, netip.MustParseAddr("169.254.169.254"), netip.IPv4Unspecified()} {
		c, err := dialInside(t, n.NS(), unix.SOCK_STREAM, netip.AddrPortFrom(addr, server.Port()))
		if err == nil {
			c.Close()
			t.Errorf("a step reached %s port %d", addr, server.Port())
		}
	}
}

func TestRefusedConnectionIsReset(t *testing.T) {
	testenv.Root(t)
	n := private(t, Options{})
	l, err := net.Listen("tcp", netip.AddrPortFrom(hostAddress(t), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	if _, err := dialInside(t, n.NS(), unix.SOCK_STREAM, closed); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connecting to a closed port gave %v, want ECONNREFUSED", err)
	}
}

// dnsServer answers every question for an A record with 192.0.2.7, on a
// loopback address and port 53, as a local resolver does.
func dnsServer(t *testing.T) netip.Addr {
	t.Helper()
	addr := netip.MustParseAddr("127.0.0.77")
	pc, err := net.ListenPacket("udp", netip.AddrPortFrom(addr, dnsPort).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			question := 12 + bytes.IndexByte(buf[12:n], 0) + 5 // header, name, type and class
			answer := append([]byte{}, buf[:question]...)
			answer[2] |= 0x80 // a response
			answer[11] = 0    // without the additional records of the query
			binary.BigEndian.PutUint16(answer[6:], 1)
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7)
			_, _ = pc.WriteTo(answer, from)
		}
	}()
	return addr
}

func TestNamesResolveThroughALoopbackResolver(t *testing.T) {
	testenv.Root(t)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := fmt.Sprintf("search example.test\nnameserver %s\n", dnsServer(t))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	n := private(t, Options{ResolvConf: conf})
	if want := "search example.test\nnameserver 10.0.2.3\n"; string(n.ResolvConf()) != want {
		t.Errorf("resolv.conf is %q, want %q", n.ResolvConf(), want)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return dialInside(t, n.NS(), unix.SOCK_DGRAM, netip.AddrPortFrom(NameserverIP, dnsPort))
	}}
	addrs, err := resolver.LookupNetIP(t.Context(), "ip4", "anything.example.")
	if err != nil || len(addrs) != 1 || addrs[0] != netip.MustParseAddr("192.0.2.7") {
		t.Errorf("resolved to %v, %v", addrs, err)
	}
}

func TestDialIntoTheNamespace(t *testing.T) {
	testenv.Root(t)
	n := private(t, Options{})
	server := listenInside(t, n, unix.AF_INET, 80)
	peer := make(chan string, 1)
	go func() {
		c, err := server.Accept()
		if err != nil {
			peer <- err.Error()
			return
		}
		defer c.Close()
		peer <- c.RemoteAddr().(*net.TCPAddr).IP.String()
	}()
	c, err := n.Dial(t.Context(), 80)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := <-peer; got != GatewayIP.String() {
		t.Errorf("the connection comes from %s, want %s", got, GatewayIP)
	}
}

func TestNoneHasLoopbackOnly(t *testing.T) {
	testenv.Root(t)
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := p.Namespace(t.Context(), None)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	err = inside(t, n.NS(), func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		if lines := strings.Count(string(text), ":"); lines != 1 || !strings.Contains(string(text), "lo:") {
			return fmt.Errorf("devices: %s", text)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestUnprivileged runs the veth variant in a user namespace of an ordinary
// user, who cannot open /dev/net/tun here.
func TestUnprivileged(t *testing.T) {
	if !isChild() {
		runChild(t, "unshare", "--user", "--map-root-user")
		return
	}
	checkTCP(t, privateVeth(t, false))
}

func fileMode(t *testing.T, name string) os.FileMode {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func TestResolvConf(t *testing.T) {
	c := parseResolvConf("# c\nnameserver 10.1.1.1\nnameserver ::1\noptions ndots:2\nnameserver bad\nbad\n" +
		"nameserver 10.1.1.2\nnameserver 10.1.1.3\n")
	if len(c.servers) != maxServers || c.servers[1].Addr() != netip.IPv6Loopback() {
		t.Errorf("servers are %v", c.servers)
	}
	if got := string(c.text(nameservers(2))); got != "options ndots:2\nnameserver 10.0.2.3\nnameserver 10.0.2.4\n" {
		t.Errorf("text is %q", got)
	}
}

func TestDNSOfTheCommandLine(t *testing.T) {
	const conf = "domain example.test\noptions ndots:2\nnameserver 10.0.2.3\n"
	servers := []string{"192.0.2.53", "::1"}
	for want, dns := range map[string]DNS{
		conf: {},
		"domain example.test\noptions ndots:2\nnameserver 192.0.2.53\nnameserver ::1\n": {Servers: servers},
		"options ndots:2\nsearch a.test b.test\nnameserver 10.0.2.3\n":                  {Search: []string{"a.test", "b.test"}},
		"domain example.test\noptions timeout:1 attempts:1\nnameserver 10.0.2.3\n":      {Options: []string{"timeout:1", "attempts:1"}},
	} {
		if got := string(dns.ResolvConf([]byte(conf))); got != want {
			t.Errorf("%+v gives %q, want %q", dns, got, want)
		}
	}
}

func TestHasIPv6(t *testing.T) {
	const zero = "00000000000000000000000000000000"
	line := func(dev string) string {
		return zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 " + dev + "\n"
	}
	if !HasIPv6(strings.NewReader(line("lo") + line("eth0"))) {
		t.Error("a default route through eth0 is not seen")
	}
	if HasIPv6(strings.NewReader(line("lo"))) {
		t.Error("the kernel's own unreachable route through lo counts")
	}
}

func TestReleasedNamespaceIsUsedAgain(t *testing.T) {
	testenv.Root(t)
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	acquire := func() *Namespace {
		n, err := p.Acquire(t.Context(), Private)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first, second := acquire(), acquire()
	if first == second {
		t.Fatal("two steps at once have one network")
	}
	p.Release(first)
	if third := acquire(); third != first {
		t.Error("an idle network was not used again")
	}
	checkTCP(t, first)
	p.Release(first)
	p.Release(second)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkPrivate(b *testing.B) {
	testenv.Root(b)
	p, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		n, err := p.Namespace(b.Context(), Private)
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
