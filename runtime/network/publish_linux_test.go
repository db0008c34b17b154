package network

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/strata-build/strata/internal/testenv"
)

var (
	localhost  = netip.MustParseAddr("127.0.0.1")
	localhost6 = netip.IPv6Loopback()
)

// bindInside makes a socket of a process in ns, on all addresses of a family.
func bindInside(t testing.TB, ns *os.File, family, kind int, port uint16) *os.File {
	t.Helper()
	var f *os.File
	err := inside(t, ns, func() error {
		s, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(s), "socket")
		if family == unix.AF_INET {
			return unix.Bind(s, &unix.SockaddrInet4{Port: int(port)})
		}
		return errors.Join(
			unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
			unix.Bind(s, &unix.SockaddrInet6{Port: int(port)}))
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// listenInside listens on a port of the namespace.
func listenInside(t testing.TB, n *Namespace, family int, port uint16) net.Listener {
	t.Helper()
	f := bindInside(t, n.NS(), family, unix.SOCK_STREAM, port)
	defer f.Close()
	if err := unix.Listen(int(f.Fd()), 64); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serveInside answers connections to a port of the namespace in upper case,
// when the client has sent all.
func serveInside(t testing.TB, n *Namespace, family int, port uint16) {
	t.Helper()
	l := listenInside(t, n, family, port)
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
					_, _ = c.Write(bytes.ToUpper(data))
				}
			}()
		}
	}()
}

// serveDatagrams answers each datagram to a port of the namespace with the
// address that it came from, and its text.
func serveDatagrams(t testing.TB, n *Namespace, family int, port uint16) {
	t.Helper()
	f := bindInside(t, n.NS(), family, unix.SOCK_DGRAM, port)
	defer f.Close()
	pc, err := net.FilePacketConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(append([]byte(from.String()+" "), buf[:n]...), from)
		}
	}()
}

// publish publishes ports until the end of the test, and then wants all that
// was opened and started for them to be gone.
func publish(t *testing.T, n *Namespace, ports ...Port) []Port {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	p, err := n.Publish(t.Context(), ports)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close published ports: %v", err)
		}
		eventually(t, "goroutines", func() int { return runtime.NumGoroutine() }, goroutines)
		eventually(t, "open files", func() int { return openFiles(t) }, files)
	})
	return p.Ports()
}

// eventually waits for count to fall to what it was: the other ends of
// connections end a moment later.
func eventually(t *testing.T, what string, count func() int, want int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); count() > want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Errorf("%d %s are left, there were %d before:\n%s", count(), what, want, stacks[:runtime.Stack(stacks, true)])
			return
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func at(p Port) string { return netip.AddrPortFrom(p.HostIP, p.HostPort).String() }

// loud wants a published port to lead to serveInside.
func loud(t *testing.T, at string) {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("a long message, ", 1<<16) // 1 MiB: more than any buffer
	got, err := exchange(c, text)
	if err != nil || got != strings.ToUpper(text) {
		t.Errorf("%s: got %d bytes, %v; want the %d bytes upper-cased", at, len(got), err, len(text))
	}
}

// ask sends a datagram from c and wants serveDatagrams' answer to it. It
// returns the address that the container saw.
func ask(t *testing.T, c net.Conn, text string) netip.AddrPort {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxDatagram)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	from, got, _ := strings.Cut(string(buf[:n]), " ")
	if got != text {
		t.Errorf("the answer has %d bytes, want %d", len(got), len(text))
	}
	addr, err := netip.ParseAddrPort(from)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func dialUDP(t testing.TB, at string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// checkPublish publishes what listens with either family, and what does not.
func checkPublish(t *testing.T, n *Namespace) {
	t.Helper()
	const v4, v6, none = 80, 81, 82
	serveInside(t, n, unix.AF_INET, v4)
	serveInside(t, n, unix.AF_INET6, v6)
	serveDatagrams(t, n, unix.AF_INET, v4)
	serveDatagrams(t, n, unix.AF_INET6, v6)
	t.Run("streams", func(t *testing.T) {
		for _, p := range publish(t, n,
			Port{HostIP: localhost, ContainerPort: v4, Protocol: "tcp"},
			Port{HostIP: localhost, ContainerPort: v6, Protocol: "tcp"},
			Port{HostIP: localhost6, ContainerPort: v4, Protocol: "tcp"},
			Port{HostIP: localhost6, ContainerPort: v6, Protocol: "tcp"}) {
			loud(t, at(p))
		}
	})
	t.Run("datagrams", func(t *testing.T) {
		for _, p := range publish(t, n,
			Port{HostIP: localhost, ContainerPort: v4, Protocol: "udp"},
			Port{HostIP: localhost, ContainerPort: v6, Protocol: "udp"},
			Port{HostIP: localhost6, ContainerPort: v4, Protocol: "udp"}) {
			checkFlows(t, at(p))
		}
	})
	t.Run("closed port", func(t *testing.T) {
		ports := publish(t, n, Port{HostIP: localhost, ContainerPort: none, Protocol: "tcp"},
			Port{HostIP: localhost, ContainerPort: none, Protocol: "udp"})
		checkReset(t, at(ports[0]))
		checkLateServer(t, n, none, at(ports[1]))
	})
}

// checkFlows wants each client to get the answers to its own datagrams.
func checkFlows(t *testing.T, at string) {
	t.Helper()
	first, second := dialUDP(t, at), dialUDP(t, at)
	flow := ask(t, first, "one")
	if other := ask(t, second, strings.Repeat("two", 20000)); other == flow {
		t.Errorf("two clients are one to the container: %v", flow)
	}
	if again := ask(t, first, ""); again != flow {
		t.Errorf("the container sees a client as %v and then as %v", flow, again)
	}
}

// checkReset wants a connection to a port that is closed inside to break.
func checkReset(t *testing.T, at string) {
	t.Helper()
	if err := readToEnd(at); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("reading gave %v, want a reset", err)
	}
}

// readToEnd connects, and reads what comes. A reset may be there before the
// connection is.
func readToEnd(at string) error {
	c, err := net.DialTimeout("tcp", at, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err = io.ReadAll(c)
	return err
}

// checkLateServer wants a client to reach a port that was closed when it sent
// its first datagram.
func checkLateServer(t *testing.T, n *Namespace, port uint16, at string) {
	t.Helper()
	c := dialUDP(t, at)
	if _, err := io.WriteString(c, "too early"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nobody answered with %d bytes, %v", n, err)
	}
	serveDatagrams(t, n, unix.AF_INET, port)
	ask(t, c, "in time")
}

func TestPublish(t *testing.T) {
	testenv.Root(t)
	checkPublish(t, private(t, Options{IPv6: true}))
}

// TestPublishUnprivileged publishes from the user namespace of an ordinary
// user, on the host's own network.
func TestPublishUnprivileged(t *testing.T) {
	if !isChild() {
		runChild(t, "unshare", "--user", "--map-root-user")
		return
	}
	n := privateVeth(t, true)
	checkPublish(t, n)
	for _, port := range []string{"tcp", "udp"} {
		_, err := n.Publish(t.Context(), []Port{{HostIP: localhost, HostPort: 80, ContainerPort: 80, Protocol: port}})
		want := "port 127.0.0.1:80 is privileged: an ordinary user may publish the ports from 1024 on"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a privileged port gave %v, want %q", err, want)
		}
	}
}

// TestPublishOnAllAddresses runs in a network of its own, since it listens on
// all of its addresses.
func TestPublishOnAllAddresses(t *testing.T) {
	if !isChild() {
		testenv.Root(t)
		runChild(t, "unshare", "--net")
		return
	}
	if err := loopbackUp(); err != nil {
		t.Fatal(err)
	}
	n := private(t, Options{})
	serveInside(t, n, unix.AF_INET, 80)
	serveDatagrams(t, n, unix.AF_INET, 80)
	t.Run("both families", func(t *testing.T) { checkAllAddresses(t, n) })
	t.Run("ports in use", func(t *testing.T) { checkInUse(t, n) })
	t.Run("range", func(t *testing.T) { checkRange(t, n) })
	t.Run("too many open files", func(t *testing.T) { checkManyFiles(t, n) })
	t.Run("close", func(t *testing.T) { checkClose(t, n) })
}

func checkAllAddresses(t *testing.T, n *Namespace) {
	for _, protocol := range []string{"tcp", "udp"} {
		for _, number := range []uint16{0, 8080} {
			ports := publish(t, n, Port{HostPort: number, ContainerPort: 80, Protocol: protocol})
			if len(ports) != 2 || ports[0].HostPort != ports[1].HostPort || ports[0].HostPort == 0 ||
				ports[0].HostIP != netip.IPv4Unspecified() || ports[1].HostIP != netip.IPv6Unspecified() {
				t.Fatalf("listens on %v, want one port on 0.0.0.0 and ::", ports)
			}
			for _, ip := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
				to := net.JoinHostPort(ip, strconv.Itoa(int(ports[0].HostPort)))
				if protocol == "tcp" {
					loud(t, to)
				} else {
					checkFlows(t, to) // a connected socket takes answers from that address only
				}
			}
		}
	}
}

func checkInUse(t *testing.T, n *Namespace) {
	// sleep inherits the socket, and is who holds the port.
	for _, c := range []struct{ protocol, at string }{
		{"tcp", "127.0.0.1:8081"}, {"tcp", "0.0.0.0:8082"}, {"udp", "[::]:8083"},
	} {
		pid := holdPort(t, c.protocol, c.at)
		number := netip.MustParseAddrPort(c.at).Port()
		files := openFiles(t)
		_, err := n.Publish(t.Context(), []Port{
			{HostPort: 9000, ContainerPort: 80, Protocol: "tcp"},
			{HostPort: number, ContainerPort: 80, Protocol: c.protocol},
		})
		says := fmt.Sprintf(":%d is in use by sleep (pid %d): choose another with -p", number, pid)
		if err == nil || !strings.Contains(err.Error(), says) || !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s %s: got %v, want %q", c.protocol, c.at, err, says)
		}
		eventually(t, "open files", func() int { return openFiles(t) }, files)
	}
	publish(t, n, Port{HostPort: 9000, ContainerPort: 80, Protocol: "tcp"}) // was not left open
	_, err := n.Publish(t.Context(), []Port{{HostIP: localhost, HostPort: 9000, ContainerPort: 80, Protocol: "tcp"}})
	if err == nil || !strings.Contains(err.Error(), "port 127.0.0.1:9000 is published already") {
		t.Errorf("publishing a port twice gave %v", err)
	}
	_, err = n.Publish(t.Context(), []Port{{HostIP: netip.MustParseAddr("192.0.2.77"), ContainerPort: 80, Protocol: "tcp"}})
	if err == nil || !strings.Contains(err.Error(), "192.0.2.77 is not an address of this machine") {
		t.Errorf("publishing on another machine's address gave %v", err)
	}
}

// holdPort starts a process that holds a socket.
func holdPort(t *testing.T, protocol, at string) (pid int) {
	t.Helper()
	family := "4"
	if strings.HasPrefix(at, "[") {
		family = "6"
	}
	var socket interface{ File() (*os.File, error) }
	var closer io.Closer
	if protocol == "tcp" {
		l, err := net.Listen("tcp"+family, at)
		if err != nil {
			t.Fatal(err)
		}
		socket, closer = l.(*net.TCPListener), l
	} else {
		c, err := net.ListenPacket("udp"+family, at)
		if err != nil {
			t.Fatal(err)
		}
		socket, closer = c.(*net.UDPConn), c
	}
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.ExtraFiles = []*os.File{f}
	if err := errors.Join(cmd.Start(), f.Close(), closer.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func checkRange(t *testing.T, n *Namespace) {
	some := Port{HostPort: 8100, HostPortEnd: 8101, ContainerPort: 80, Protocol: "tcp"}
	for _, want := range []uint16{8100, 8101} {
		ports := publish(t, n, some)
		if ports[0].HostPort != want || ports[0].HostPortEnd != 0 {
			t.Errorf("of a range, %v was taken, want %d", ports[0], want)
		}
	}
	_, err := n.Publish(t.Context(), []Port{some})
	if err == nil || !strings.Contains(err.Error(), "all ports from 8100 to 8101 are in use") {
		t.Errorf("a range that is in use gave %v", err)
	}
}

// checkManyFiles takes all file descriptors away while a client connects, and
// gives them back.
func checkManyFiles(t *testing.T, n *Namespace) {
	port := publish(t, n, Port{HostIP: localhost, ContainerPort: 80, Protocol: "tcp"})[0]
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	free, err := unix.Dup(s)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: uint64(free), Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	connected := unix.Connect(s, &unix.SockaddrInet4{Port: int(port.HostPort), Addr: port.HostIP.As4()})
	time.Sleep(50 * time.Millisecond) // for the listener to meet the limit
	if err := errors.Join(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit), connected); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(s), "client")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := exchange(c, "late"); err != nil || got != "LATE" {
		t.Errorf("got %q, %v", got, err)
	}
}

// checkClose ends published ports in the middle of connections.
func checkClose(t *testing.T, n *Namespace) {
	p, err := n.Publish(t.Context(), []Port{
		{HostIP: localhost, ContainerPort: 80, Protocol: "tcp"}, {HostIP: localhost, ContainerPort: 80, Protocol: "udp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", at(p.Ports()[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "half of a"); err != nil {
		t.Fatal(err)
	}
	ask(t, dialUDP(t, at(p.Ports()[1])), "a flow")
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after Close, reading gave %v", err)
	}
	if c, err := net.Dial("tcp", at(p.Ports()[0])); err == nil {
		c.Close()
		t.Error("the port is open after Close")
	}
}

func TestClosingTheNamespaceEndsPublishedPorts(t *testing.T) {
	testenv.Root(t)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := p.Namespace(t.Context(), Private)
	if err != nil {
		t.Fatal(err)
	}
	published, err := n.Publish(t.Context(), []Port{{HostIP: localhost, ContainerPort: 80, Protocol: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	server := listenInside(t, n, unix.AF_INET, 80)
	ended := make(chan error)
	go func() { ended <- readToEnd(at(published.Ports()[0])) }()
	inner, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection does not end with the namespace")
	}
	if err := errors.Join(published.Close(), inner.Close(), server.Close()); err != nil {
		t.Error(err)
	}
	eventually(t, "goroutines", runtime.NumGoroutine, goroutines)
	eventually(t, "open files", func() int { return openFiles(t) }, files)
}

func TestPublishNeedsAPrivateNetwork(t *testing.T) {
	if _, err := (&Namespace{mode: Host}).Publish(t.Context(), nil); !errors.Is(err, ErrNotPrivate) {
		t.Errorf("got %v", err)
	}
}

// TestFlowsEndWhenSilent counts from a flow's last datagram.
func TestFlowsEndWhenSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := &flow{timer: time.NewTimer(udpIdle), endpoint: deadEnd{}, active: began}
		go func() {
			time.Sleep(udpIdle / 2)
			f.send([]byte("a sign of life"))
		}()
		for f.wait(t.Context(), nil) {
		}
		if took := time.Since(began); took != udpIdle*3/2 {
			t.Errorf("the flow ended after %v, want %v", took, udpIdle*3/2)
		}
	})
}

// deadEnd takes datagrams and answers none.
type deadEnd struct{ tcpip.Endpoint }

func (deadEnd) Write(p tcpip.Payloader, _ tcpip.WriteOptions) (int64, tcpip.Error) {
	return int64(p.Len()), nil
}

// TestJoin enters the network of another process.
func TestJoin(t *testing.T) {
	testenv.Root(t)
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := p.Join(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	err = inside(t, n.NS(), func() error {
		got, err := os.Readlink("/proc/thread-self/ns/net")
		if err == nil && got != want {
			err = fmt.Errorf("the network is %s, want %s", got, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if len(n.ResolvConf()) != 0 {
		t.Errorf("resolv.conf is %q", n.ResolvConf())
	}
	if _, err := n.Publish(t.Context(), nil); !errors.Is(err, ErrNotPrivate) {
		t.Errorf("publishing ports of a joined network gave %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.Join(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("joining no process gave %v", err)
	}
}

const childVariable = "NETWORK_TEST_CHILD"

// isChild is true in the process that runChild starts.
func isChild() bool { return os.Getenv(childVariable) != "" }

// runChild runs the test again behind a command, as an ordinary user when
// that makes a user namespace.
func runChild(t *testing.T, command ...string) {
	t.Helper()
	testenv.Root(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(command[0], append(command[1:], filepath.Join(dir, "network.test"),
		"-test.run=^"+t.Name()+"$", "-test.v")...)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Dir = "/"
	if strings.Contains(strings.Join(command, " "), "--user") {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	copyForAll(t, self, filepath.Join(dir, "network.test"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, testenv.Failures(string(out)))
	}
}

// copyForAll copies a program to where an ordinary user can run it.
func copyForAll(t *testing.T, from, to string) {
	t.Helper()
	for d := filepath.Dir(to); d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755|os.ModeSticky&fileMode(t, d)|0o777&fileMode(t, d)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// privateVeth makes the kind of network that ordinary users get.
func privateVeth(t testing.TB, ipv6 bool) *Namespace {
	t.Helper()
	ns, dev, err := newVethNamespace(ipv6, errors.New("not tried"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newUserStack(dev, nil, ipv6)
	if err != nil {
		t.Fatal(err)
	}
	n := &Namespace{mode: Private, ns: ns, stack: s}
	t.Cleanup(func() { n.Close() })
	return n
}
