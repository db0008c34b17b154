package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
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
	ctx, cancel := u.context(dialTimeout)
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
	go u.relay(gonet.NewTCPConn(&wq, ep), out, pumpStream)
}

// context ends with the network or after d.
func (u *userStack) context(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	stop := make(chan struct{})
	go func() {
		select {
		case <-u.done:
			cancel()
		case <-stop:
		}
	}()
	var once sync.Once
	return ctx, func() { once.Do(func() { close(stop) }); cancel() }
}

// halfCloser is a connection whose two directions end apart.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// relay copies both ways with pump, until both have ended or the network is
// closed.
func (u *userStack) relay(inner, outer net.Conn, pump func(dst, src net.Conn)) {
	ended := make(chan struct{})
	go func() {
		select {
		case <-u.done:
		case <-ended:
		}
		inner.Close()
		outer.Close()
	}()
	var wg sync.WaitGroup
	wg.Go(func() { pump(outer, inner) })
	wg.Go(func() { pump(inner, outer) })
	wg.Wait()
	close(ended)
}

// pumpStream copies one direction and passes its end on.
func pumpStream(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	half, ok := dst.(halfCloser)
	if err != nil || !ok {
		dst.Close()
		return
	}
	if half.CloseWrite() != nil {
		dst.Close()
	}
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
	go u.relay(gonet.NewUDPConn(&wq, ep), out, pumpDatagrams)
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

// Dial connects to a port inside of a private network, from GatewayIP. It is
// how ports are published.
func (n *Namespace) Dial(ctx context.Context, network string, port uint16) (net.Conn, error) {
	if n.stack == nil {
		return nil, errors.New("dial into network: it is not private")
	}
	remote := tcpip.FullAddress{NIC: nic, Addr: addressOf(AddressIP), Port: port}
	local := tcpip.FullAddress{NIC: nic, Addr: addressOf(GatewayIP)}
	if network == "udp" {
		return gonet.DialUDP(n.stack.stack, &local, &remote, header.IPv4ProtocolNumber)
	}
	return gonet.DialTCPWithBind(ctx, n.stack.stack, local, remote, header.IPv4ProtocolNumber)
}
