package network

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// listenError is why a socket of the host could not be opened.
type listenError struct {
	at  netip.AddrPort
	err error
}

func (e *listenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.at, e.err) }

func (e *listenError) Unwrap() error { return e.err }

// portError is a listenError in words that say what to do.
type portError struct {
	text string
	*listenError
}

func (e *portError) Error() string { return e.text }

// explain says what stands in the way of publishing port.
func (e *listenError) explain(port Port) error {
	switch {
	case errors.Is(e.err, unix.EADDRINUSE):
		return &portError{e.inUse(port), e}
	case errors.Is(e.err, unix.EACCES):
		return &portError{fmt.Sprintf("port %s is privileged: an ordinary user may publish the ports from %s on "+
			"(net.ipv4.ip_unprivileged_port_start)", e.at, firstUnprivileged()), e}
	case errors.Is(e.err, unix.EADDRNOTAVAIL):
		return &portError{fmt.Sprintf("port %s: %s is not an address of this machine", e.at, e.at.Addr()), e}
	}
	return e
}

func (e *listenError) inUse(port Port) string {
	if port.HostPortEnd != 0 {
		return fmt.Sprintf("all ports from %d to %d are in use: choose another range with -p", port.HostPort, port.HostPortEnd)
	}
	name, pid, ok := holder(port.Protocol, e.at)
	switch {
	case !ok:
		return fmt.Sprintf("port %s is in use: choose another with -p", e.at)
	case pid == os.Getpid():
		return fmt.Sprintf("port %s is published already: choose another with -p", e.at)
	}
	return fmt.Sprintf("port %s is in use by %s (pid %d): choose another with -p", e.at, name, pid)
}

// firstUnprivileged is the first port that an ordinary user may listen on.
func firstUnprivileged() string {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return "1024" // what it is unless somebody sets it
	}
	return strings.TrimSpace(string(text))
}

// holder finds the process that listens where at would, as far as /proc shows
// it: an ordinary user sees no one else's.
func holder(protocol string, at netip.AddrPort) (name string, pid int, ok bool) {
	inode, ok := socketInode(protocol, at)
	if !ok {
		return "", 0, false
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "", 0, false
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		return strings.TrimSpace(string(comm)), pid, err == nil
	}
	return "", 0, false
}

// socketInode finds the socket that is in the way of one at the address. The
// main thread may have made a namespace and stayed in it: it is not asked.
func socketInode(protocol string, at netip.AddrPort) (inode string, ok bool) {
	for _, name := range []string{protocol, protocol + "6"} {
		f, err := os.Open("/proc/thread-self/net/" + name)
		if err != nil {
			continue
		}
		inode, ok := findSocket(f, at)
		f.Close()
		if ok {
			return inode, true
		}
	}
	return "", false
}

// The states of sockets in /proc/net that have no peer: of TCP, and of UDP.
const (
	stateListen = "0A"
	stateClosed = "07"
)

// findSocket reads a table of /proc/net: a number, the local and the remote
// address, the state, six more columns of which the last is the inode.
func findSocket(table io.Reader, at netip.AddrPort) (inode string, ok bool) {
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != stateListen && f[3] != stateClosed {
			continue
		}
		local, err := parseSocketAddress(f[1])
		if err == nil && local.Port() == at.Port() && overlap(local.Addr(), at.Addr()) {
			return f[9], true
		}
	}
	return "", false
}

func overlap(a, b netip.Addr) bool { return a == b || a.IsUnspecified() || b.IsUnspecified() }

// parseSocketAddress reads an address of /proc/net: words of 32 bits in the
// machine's order, and a port.
func parseSocketAddress(text string) (netip.AddrPort, error) {
	words, port, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b, err := hex.DecodeString(words)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q of a socket", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}
