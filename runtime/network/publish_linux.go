package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotPrivate is returned for what only a private network can do.
var ErrNotPrivate = errors.New("the network is not private: it shares the host's, or has none")

// Published are the ports of a private network that the host listens on.
type Published struct {
	ns        *Namespace
	ctx       context.Context // ends with Close and with the namespace
	end       context.CancelFunc
	listeners []listener
	running   sync.WaitGroup
}

// listener is a socket of the host's whose connections go into the namespace.
type listener interface {
	io.Closer
	// serve relays until the socket is closed.
	serve(p *Published)
	// port is what it listens on, with the real port of the host.
	port() Port
}

// Publish listens on the host's side of all ports, or of none when it returns
// an error, and relays what comes in to the ports in the namespace. What is
// relayed comes from GatewayIP there. A port without an address of the host
// is listened on with IPv4 and IPv6, by the same number. ctx bounds Publish
// itself; the ports are published until Close, or until n is closed.
func (n *Namespace) Publish(ctx context.Context, ports []Port) (*Published, error) {
	if n.stack == nil {
		return nil, ErrNotPrivate
	}
	p := &Published{ns: n}
	p.ctx, p.end = context.WithCancel(n.stack.ctx)
	for _, port := range ports {
		opened, err := listen(ctx, port)
		p.listeners = append(p.listeners, opened...)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	for _, l := range p.listeners {
		p.running.Go(func() { l.serve(p) })
	}
	return p, nil
}

// Ports are the ports that are listened on: each has an address and a port of
// the host. One that was published without an address is there twice, for
// IPv4 and IPv6.
func (p *Published) Ports() []Port {
	ports := make([]Port, len(p.listeners))
	for i, l := range p.listeners {
		ports[i] = l.port()
	}
	return ports
}

// Close closes the sockets, cuts what is relayed, and waits for its end.
func (p *Published) Close() error {
	p.end()
	err := closeAll(p.listeners)
	p.running.Wait()
	return err
}

func closeAll(listeners []listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// randomTries is how often another random port is tried, where one that is
// free for IPv4 is not so for IPv6.
const randomTries = 32

// listen opens the sockets of one published port.
func listen(ctx context.Context, port Port) ([]listener, error) {
	var failed *listenError
	for _, number := range candidates(port) {
		opened, err := listenOn(ctx, port, number)
		if err == nil {
			return opened, nil
		}
		failed = err
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, failed.explain(port)
}

// candidates are the host's ports of which one is taken.
func candidates(port Port) []uint16 {
	if port.HostPort == 0 {
		return make([]uint16, randomTries)
	}
	numbers := []uint16{port.HostPort}
	for n := port.HostPort; n < port.HostPortEnd; n++ {
		numbers = append(numbers, n+1)
	}
	return numbers
}

// listenOn opens the sockets of one port by the number given: one for each
// address, or the two for all addresses.
func listenOn(ctx context.Context, port Port, number uint16) ([]listener, *listenError) {
	addrs := []netip.Addr{port.HostIP}
	if !port.HostIP.IsValid() {
		addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var opened []listener
	for i, addr := range addrs {
		port.HostIP, port.HostPort, port.HostPortEnd = addr, number, 0
		l, err := listenAt(ctx, port)
		if err != nil && i > 0 && lacksFamily(err) {
			break // a machine without IPv6
		}
		if err != nil {
			return nil, &listenError{netip.AddrPortFrom(addr, number), errors.Join(err, closeAll(opened))}
		}
		opened = append(opened, l)
		number = l.port().HostPort
	}
	return opened, nil
}

func lacksFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

func listenAt(ctx context.Context, port Port) (listener, error) {
	if port.Protocol == "udp" {
		return listenUDP(ctx, port)
	}
	return listenTCP(ctx, port)
}

// family is the suffix of net's names that keeps a socket to one family.
func family(addr netip.Addr) string {
	if addr.Is4() {
		return "4"
	}
	return "6"
}

// tcpListener relays streams.
type tcpListener struct {
	*net.TCPListener
	published Port
}

func listenTCP(ctx context.Context, port Port) (*tcpListener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // it would cost, and ends here
	at := netip.AddrPortFrom(port.HostIP, port.HostPort).String()
	l, err := config.Listen(ctx, "tcp"+family(port.HostIP), at)
	if err != nil {
		return nil, err
	}
	port.HostPort = l.Addr().(*net.TCPAddr).AddrPort().Port()
	return &tcpListener{l.(*net.TCPListener), port}, nil
}

func (l *tcpListener) port() Port { return l.published }

func (l *tcpListener) serve(p *Published) {
	var wait backoff
	for {
		conn, err := l.AcceptTCP()
		if err == nil {
			wait = 0
			p.running.Go(func() { p.relayTCP(conn, l.published.ContainerPort) })
			continue
		}
		if errors.Is(err, net.ErrClosed) || !wait.pause(p.ctx) {
			return
		}
	}
}

func (p *Published) relayTCP(outer *net.TCPConn, port uint16) {
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	inner, err := p.ns.Dial(ctx, port)
	cancel()
	if err != nil {
		closeConn(outer, err) // the client sees a reset, as from a refused connection
		return
	}
	relay(p.ctx, inner, outer, pumpStream)
}

// backoff is the time to wait after an error that may pass, such as too many
// open files.
type backoff time.Duration

const (
	minBackoff = backoff(5 * time.Millisecond)
	maxBackoff = backoff(time.Second)
)

// pause waits, longer each time, and returns false when ctx has ended.
func (b *backoff) pause(ctx context.Context) bool {
	*b = min(max(2**b, minBackoff), maxBackoff)
	timer := time.NewTimer(time.Duration(*b))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
