package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxInFlight bounds TCP connections that are being set up.
	maxInFlight = 1024
	dialTimeout = 30 * time.Second
	// udpIdle is how long a UDP flow may be silent, as in conntrack.
	udpIdle = 120 * time.Second
	dnsPort = 53
)

// forward installs the handlers that turn the namespace's connections into
// the host's.
func (u *userStack) forward() {
	u.tune()
	tcpForwarder := tcp.NewForwarder(u.stack, 0, maxInFlight, u.forwardTCP)
	u.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcpForwarder.HandlePacket)
	udpForwarder := udp.NewForwarder(u.stack, u.forwardUDP)
	u.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udpForwarder.HandlePacket)
}

// destination maps what the namespace asked for to the host's address that
// is dialled, or says no.
func (u *userStack) destination(id stack.TransportEndpointID) (netip.AddrPort, bool) {
	addr, ok := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	if !ok {
		return netip.AddrPort{}, false
	}
	addr = addr.Unmap()
	if i, ok := nameserverIndex(addr, len(u.resolvers)); ok {
		return u.resolvers[i], id.LocalPort == dnsPort
	}
	if !reachable(addr) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, id.LocalPort), true
}

// reachable refuses what would lead to the host itself by another name than
// an address of the network, and the link-local range.
func reachable(a netip.Addr) bool {
	return a.IsValid() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() &&
		!a.IsLinkLocalUnicast() && a != GatewayIP && a != gateway6IP &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func (u *userStack) forwardTCP(r *tcp.ForwarderRequest) {
	to, ok := u.destination(r.ID())
	if !ok {
		r.Complete(true)
		return
	}
	ctx, cancel := context.WithTimeout(u.ctx, dialTimeout)
	defer cancel()
	out, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err != nil {
		r.Complete(true) // the step sees a reset, as from a refused connection
		return
	}
	var wq waiter.Queue
	ep, tcpErr := r.CreateEndpoint(&wq)
	r.Complete(false)
	if tcpErr != nil {
		out.Close()
		return
	}
	ep.SocketOptions().SetKeepAlive(true)
	go relay(u.ctx, gonet.NewTCPConn(&wq, ep), out, pumpStream)
}

// halfCloser is a connection whose two directions end apart.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// relay copies both ways with pump, until both have ended or ctx has.
func relay(ctx context.Context, inner, outer net.Conn, pump func(dst, src net.Conn)) {
	both := func() {
		inner.Close()
		outer.Close()
	}
	stop := context.AfterFunc(ctx, both)
	var wg sync.WaitGroup
	wg.Go(func() { pump(outer, inner) })
	wg.Go(func() { pump(inner, outer) })
	wg.Wait()
	if stop() {
		both()
	}
}

// pumpStream copies one direction and passes its end on.
func pumpStream(dst, src net.Conn) {
	err := copyStream(dst, src)
	half, ok := dst.(halfCloser)
	if err != nil || !ok {
		closeConn(dst, err)
		return
	}
	if err := half.CloseWrite(); err != nil {
		closeConn(dst, err)
	}
}

// minStream and maxStream bound the buffer of one direction of a stream: most
// carry little, and the others are twice as fast with the larger one.
const (
	minStream = 16 << 10
	maxStream = 128 << 10
)

// copyStream copies until the end of src, with a buffer that grows as long as
// src fills it.
func copyStream(dst io.Writer, src io.Reader) error {
	buf := make([]byte, minStream)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n == len(buf) && n < maxStream {
			buf = make([]byte, 2*n)
		}
	}
}

// closeConn closes a connection, and after an error resets it, so that its
// peer does not take the break for the end of the data.
func closeConn(c net.Conn, err error) {
	if tcp, ok := c.(*net.TCPConn); ok && err != nil {
		_ = tcp.SetLinger(0) // a socket that is closed already needs none
	}
	c.Close()
}

func (u *userStack) forwardUDP(r *udp.ForwarderRequest) {
	to, ok := u.destination(r.ID())
	if !ok {
		return
	}
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return // a datagram may be lost; programs ask again
	}
	var wq waiter.Queue
	ep, udpErr := r.CreateEndpoint(&wq)
	if udpErr != nil {
		out.Close()
		return
	}
	go relay(u.ctx, gonet.NewUDPConn(&wq, ep), out, pumpDatagrams)
}

// pumpDatagrams copies one direction until the flow has been silent for
// udpIdle.
func pumpDatagrams(dst, src net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		if src.SetReadDeadline(time.Now().Add(udpIdle)) != nil {
			return
		}
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if _, err := dst.Write(buf[:n]); err != nil && errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Dial connects to a TCP port inside of a private network, from GatewayIP, or
// with IPv6 where the namespace has it and the port is closed for IPv4.
func (n *Namespace) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	if n.stack == nil {
		return nil, ErrNotPrivate
	}
	var errs []error
	for _, w := range n.stack.ways() {
		conn, err := gonet.DialTCPWithBind(ctx, n.stack.stack, w.from(), w.to(port), w.protocol)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("dial %s: %w", netip.AddrPortFrom(w.peer, port), err))
	}
	return nil, errors.Join(errs...)
}
