// Package network gives a step or a container its network.
//
// A private network is a new network namespace whose only way out is a
// TCP/IP stack in this process (gVisor's netstack). It needs no root, changes
// no firewall rule, and shows the host nothing but ordinary sockets:
//
//	step ── eth0 (network namespace) ── device fd ── netstack ── net.Dial ── host's network
//
// The device is a TUN device where /dev/net/tun can be opened. Elsewhere it
// is a veth pair whose other end lies in a second namespace of ours and is
// read through a packet socket, which an unprivileged user namespace may do.
//
// What a namespace reaches is what the host reaches, but never the host's
// own loopback: a connection to 127.0.0.0/8 or ::1 ends in the namespace
// itself, and the netstack refuses such a destination, the unspecified
// addresses and link-local ones (the metadata services of clouds live
// there).
//
// A published port goes the other way: a socket of the host's, whose
// connections and datagrams the stack carries into the namespace.
//
// Names are resolved by relaying DNS messages, as they are, from
// NameserverIP to the host's own resolvers, so that a resolver that listens
// on the host's loopback works too.
package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
)

// Mode is the kind of network that a process gets.
type Mode int

const (
	// Private is a network namespace with user-mode networking.
	Private Mode = iota
	// None is a network namespace with nothing but loopback.
	None
	// Host is the network of the host.
	Host
	// joined is the network of another container.
	joined
)

// Addresses inside of a private namespace. They are those of QEMU's and
// slirp4netns' user-mode networks, so that nobody has to learn new ones.
var (
	// AddressIP is the namespace's own address.
	AddressIP = netip.MustParseAddr("10.0.2.100")
	// GatewayIP is where published ports' connections come from.
	GatewayIP = netip.MustParseAddr("10.0.2.2")
	// NameserverIP answers DNS for the host's first resolver; the addresses
	// after it do so for the others.
	NameserverIP = netip.MustParseAddr("10.0.2.3")

	address6IP = netip.MustParseAddr("fd00:5354::100")
	gateway6IP = netip.MustParseAddr("fd00:5354::2")
)

// ErrNoDevice is returned when neither a TUN device nor a packet socket can
// be had.
var ErrNoDevice = errors.New("no network device for a private network")

// Options configures a Provider.
type Options struct {
	// ResolvConf is the host's resolver configuration; default
	// /etc/resolv.conf.
	ResolvConf string
	// IPv6 gives private networks an IPv6 address and route. Without it
	// programs do not try addresses that the host cannot reach.
	IPv6 bool
}

// Provider makes namespaces and keeps those that steps have given back.
type Provider struct {
	resolv resolvConf
	ipv6   bool

	mu   sync.Mutex
	idle map[Mode][]*Namespace
}

// New reads the host's resolver configuration. A host without one has no
// name resolution, and its steps have none.
func New(opt Options) (*Provider, error) {
	name := opt.ResolvConf
	if name == "" {
		name = "/etc/resolv.conf"
	}
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read resolver configuration: %w", err)
	}
	return &Provider{resolv: parseResolvConf(string(text)), ipv6: opt.IPv6, idle: map[Mode][]*Namespace{}}, nil
}

// HasIPv6 reports whether the host has a default route for IPv6. r is the
// content of /proc/net/ipv6_route.
func HasIPv6(r io.Reader) bool {
	text, err := io.ReadAll(r)
	if err != nil {
		return false
	}
	const unspecified = "00000000000000000000000000000000"
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		// destination, prefix, source, prefix, next hop, …, device.
		if len(f) == 10 && f[0] == unspecified && f[1] == "00" && f[9] != "lo" {
			return true
		}
	}
	return false
}

// Namespace is the network of one step or container. Close ends it: its
// connections are cut, and the kernel tears the namespace down in its own
// time once no process is left in it.
type Namespace struct {
	mode  Mode
	ns    *os.File
	stack *userStack
	conf  []byte
}

// Acquire returns a network of the given mode for a step without privileges:
// an idle one, or a new one. A step that may not configure its network leaves
// nothing behind in it once its processes are gone, so steps that follow one
// another share a namespace, as in BuildKit's pool. Release gives it back.
func (p *Provider) Acquire(ctx context.Context, mode Mode) (*Namespace, error) {
	p.mu.Lock()
	if n := len(p.idle[mode]); n > 0 {
		ns := p.idle[mode][n-1]
		p.idle[mode] = p.idle[mode][:n-1]
		p.mu.Unlock()
		return ns, nil
	}
	p.mu.Unlock()
	return p.Namespace(ctx, mode)
}

// Release keeps n for the next Acquire.
func (p *Provider) Release(n *Namespace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle[n.mode] = append(p.idle[n.mode], n)
}

// Close ends the idle networks.
func (p *Provider) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, idle := range p.idle {
		for _, n := range idle {
			errs = append(errs, n.Close())
		}
	}
	clear(p.idle)
	return errors.Join(errs...)
}

// Namespace makes a network of the given mode.
func (p *Provider) Namespace(ctx context.Context, mode Mode) (*Namespace, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch mode {
	case Host:
		return &Namespace{mode: Host, conf: p.resolv.text(p.resolv.addrs())}, nil
	case None:
		ns, err := newNamespace(nil)
		if err != nil {
			return nil, fmt.Errorf("create network namespace: %w", err)
		}
		return &Namespace{mode: None, ns: ns, conf: []byte("")}, nil
	default:
		return p.private()
	}
}

func (p *Provider) private() (*Namespace, error) {
	ns, dev, err := newPrivateNamespace(p.ipv6)
	if err != nil {
		return nil, fmt.Errorf("create private network: %w", err)
	}
	s, err := newUserStack(dev, p.resolv.servers, p.ipv6)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start user-mode network: %w", err), dev.Close(), ns.Close())
	}
	return &Namespace{mode: Private, ns: ns, stack: s, conf: p.resolv.text(nameservers(len(p.resolv.servers)))}, nil
}

// Join opens the network of a running process, for a container that shares
// another's. Its ResolvConf is empty: the files of the other one hold for both.
// Close gives up no more than the descriptor. The process must be one that the
// caller may trace: an ordinary user's lies in a user namespace, which the
// caller has to be in.
func (p *Provider) Join(pid int) (*Namespace, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("join network of process %d: %w", pid, err)
	}
	return &Namespace{mode: joined, ns: ns}, nil
}

// nameservers are the addresses that stand for n resolvers of the host.
func nameservers(n int) []netip.Addr {
	addrs := make([]netip.Addr, 0, n)
	for a := NameserverIP; len(addrs) < n; a = a.Next() {
		addrs = append(addrs, a)
	}
	return addrs
}

// nameserverIndex is the inverse of nameservers.
func nameserverIndex(a netip.Addr, n int) (int, bool) {
	i := slices.Index(nameservers(n), a)
	return i, i >= 0
}

// NS is the descriptor of the network namespace, nil for the host's.
func (n *Namespace) NS() *os.File { return n.ns }

// ResolvConf is the content of /etc/resolv.conf for processes in n.
func (n *Namespace) ResolvConf() []byte { return n.conf }

// Close ends the network.
func (n *Namespace) Close() error {
	var errs []error
	if n.stack != nil {
		errs = append(errs, n.stack.Close())
	}
	if n.ns != nil {
		errs = append(errs, n.ns.Close())
	}
	return errors.Join(errs...)
}
