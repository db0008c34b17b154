package network

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
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
	resolvers []netip.AddrPort
	done      chan struct{} // closed by Close: what is still relayed ends
}

func newUserStack(dev *device, resolvers []netip.AddrPort, v6 bool) (*userStack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol,
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal: false,
	})
	u := &userStack{stack: s, dev: dev, resolvers: resolvers, done: make(chan struct{})}
	if err := u.attach(v6); err != nil {
		s.Destroy()
		return nil, err
	}
	u.forward()
	return u, nil
}

// attach connects the device. The NIC is promiscuous and may spoof: it
// answers for every address of the world.
func (u *userStack) attach(v6 bool) error {
	fd := int(u.dev.file.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("set device non-blocking: %w", err)
	}
	link, err := fdbased.New(&fdbased.Options{
		FDs:            []int{fd},
		MTU:            mtu,
		EthernetHeader: u.dev.ethernet,
		Address:        tcpip.LinkAddress(u.dev.mac),
		// Nothing is lost between two ends of one machine's memory, and a
		// packet socket delivers checksums that are not filled in yet.
		RXChecksumOffload: true,
	})
	if err != nil {
		return fmt.Errorf("open link: %w", err)
	}
	if err := u.stack.CreateNIC(nic, link); err != nil {
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
	return u.addresses(v6)
}

func (u *userStack) addresses(v6 bool) error {
	own := []netip.Addr{GatewayIP, NameserverIP}
	peers := []netip.Addr{AddressIP}
	if v6 {
		own, peers = append(own, gateway6IP), append(peers, address6IP)
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
	close(u.done)
	u.stack.Destroy()
	if err := u.dev.Close(); err != nil {
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
