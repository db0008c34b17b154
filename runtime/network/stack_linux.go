package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const nic tcpip.NICID = 1

// userStack is the host's end of a private network.
type userStack struct {
	stack     *stack.Stack
	dev       *device
	link      *link
	resolvers []netip.AddrPort
	v6        bool
	ctx       context.Context // ends with Close: what is still relayed does too
	end       context.CancelFunc
}

// way is a pair of addresses that lead into the namespace: ours and its own.
type way struct {
	protocol  tcpip.NetworkProtocolNumber
	own, peer netip.Addr
}

// ways are those of a namespace, in the order in which they are tried.
func (u *userStack) ways() []way {
	ways := []way{{ipv4.ProtocolNumber, GatewayIP, AddressIP}}
	if u.v6 {
		ways = append(ways, way{ipv6.ProtocolNumber, gateway6IP, address6IP})
	}
	return ways
}

func (w way) from() tcpip.FullAddress { return tcpip.FullAddress{NIC: nic, Addr: addressOf(w.own)} }

func (w way) to(port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: addressOf(w.peer), Port: port}
}

func newUserStack(dev *device, resolvers []netip.AddrPort, v6 bool) (*userStack, error) {
	l, err := newLink(dev)
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol,
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal: false,
	})
	u := &userStack{stack: s, dev: dev, link: l, resolvers: resolvers, v6: v6}
	u.ctx, u.end = context.WithCancel(context.Background())
	u.forward() // before the first packet can come
	if err := u.attach(); err != nil {
		u.end()
		err = errors.Join(err, l.stop())
		s.Destroy()
		return nil, err
	}
	return u, nil
}

// attach connects the device. The NIC is promiscuous and may spoof: it
// answers for every address of the world.
func (u *userStack) attach() error {
	if err := u.stack.CreateNIC(nic, u.link); err != nil {
		return stackError("create NIC", err)
	}
	for _, err := range []tcpip.Error{u.stack.SetPromiscuousMode(nic, true), u.stack.SetSpoofing(nic, true)} {
		if err != nil {
			return stackError("configure NIC", err)
		}
	}
	u.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return u.addresses()
}

func (u *userStack) addresses() error {
	own := []netip.Addr{NameserverIP}
	var peers []netip.Addr
	for _, w := range u.ways() {
		own, peers = append(own, w.own), append(peers, w.peer)
	}
	for _, addr := range own {
		a := tcpip.ProtocolAddress{Protocol: protocolOf(addr), AddressWithPrefix: addressOf(addr).WithPrefix()}
		if err := u.stack.AddProtocolAddress(nic, a, stack.AddressProperties{}); err != nil {
			return stackError("add address "+addr.String(), err)
		}
	}
	if !u.dev.ethernet {
		return nil
	}
	for _, addr := range peers {
		// ARP is off at the other end: say where it is.
		if err := u.stack.AddStaticNeighbor(nic, protocolOf(addr), addressOf(addr), tcpip.LinkAddress(u.dev.peer)); err != nil {
			return stackError("add neighbour "+addr.String(), err)
		}
	}
	return nil
}

// bufferSize is that of the send and receive buffers of TCP: large enough for the
// product of loopback's bandwidth and delay.
const bufferSize = 1 << 20

func (u *userStack) tune() {
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: bufferSize, Max: 4 * bufferSize}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: bufferSize, Max: 4 * bufferSize}
	sack := tcpip.TCPSACKEnabled(true)
	// These three options cannot be refused: their values are within range.
	u.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &rcv)
	u.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &snd)
	u.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)
}

// Close cuts all connections and closes the device.
func (u *userStack) Close() error {
	u.end()
	err := u.link.stop()
	u.stack.Destroy()
	if err := errors.Join(err, u.dev.Close()); err != nil {
		return fmt.Errorf("close network device: %w", err)
	}
	return nil
}

func stackError(verb string, err tcpip.Error) error {
	return fmt.Errorf("%s: %w", verb, errors.New(err.String()))
}

func addressOf(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}
