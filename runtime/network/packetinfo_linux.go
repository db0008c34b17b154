package network

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packetInfo is the host's address that a datagram was sent to. A socket that
// listens on all addresses must answer from that one: the client knows no
// other.
type packetInfo struct {
	addr netip.Addr
	// device is the index of the device, for addresses that mean nothing
	// without it.
	device uint32
}

// packetInfoSpace is room for the control message of either family.
const packetInfoSpace = 64

// receivePacketInfo asks for the address with each datagram, where a socket
// on addr has more than one.
func receivePacketInfo(fd int, addr netip.Addr) error {
	if !addr.IsUnspecified() {
		return nil
	}
	if addr.Is4() {
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
}

// parsePacketInfo reads control messages. Without any, its result is zero.
func parsePacketInfo(oob []byte) packetInfo {
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return packetInfo{}
		}
		switch {
		case header.Level == unix.SOL_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// index, the address to answer from, the datagram's destination.
			return packetInfo{addr: netip.AddrFrom4([4]byte(data[4:8]))}
		case header.Level == unix.SOL_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := packetInfo{addr: netip.AddrFrom16([16]byte(data[:16]))}
			if info.addr.IsLinkLocalUnicast() {
				info.device = binary.NativeEndian.Uint32(data[16:])
			}
			return info
		}
		oob = rest
	}
	return packetInfo{}
}

// message is the control message that sends an answer from i.
func (i packetInfo) message() []byte {
	switch {
	case i.addr.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: i.addr.As4()})
	case i.addr.Is6():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: i.addr.As16(), Ifindex: i.device})
	}
	return nil
}
