package network

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link joins a device to the stack: one read or write is one packet. gVisor's
// own, package fdbased, waits in system calls instead of in Go's poller, and
// leaves a descriptor open for each link that was closed: too much for a
// monitor whose container restarts for ever.
type link struct {
	dev *device
	raw syscall.RawConn

	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	reading    sync.WaitGroup
}

func newLink(dev *device) (*link, error) {
	raw, err := dev.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	// Only what the poller knows has deadlines, and stop depends on one.
	if err := dev.file.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("wait for %s: %w", dev.file.Name(), err)
	}
	return &link{dev: dev, raw: raw}, nil
}

// stop ends reading. It comes before the stack is taken down, which holds
// locks that a packet on its way up may need.
func (l *link) stop() error {
	err := l.dev.file.SetReadDeadline(time.Unix(1, 0))
	l.reading.Wait()
	return err
}

// Attach implements stack.LinkEndpoint. It begins to read.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
	l.reading.Go(l.read)
}

// frameSize is that of the largest packet with its header. It fits into one
// chunk of package buffer.
const frameSize = header.EthernetMinimumSize + mtu

// smallFrame is the largest packet that is copied into a buffer of its size,
// so that queues of small packets are not made of large buffers.
const smallFrame = 8 << 10

// read passes packets up until stop, or until the device is gone.
func (l *link) read() {
	view := buffer.NewViewSize(frameSize)
	defer func() { view.Release() }()
	for {
		n, err := l.dev.file.Read(view.AsSlice())
		if err != nil {
			return
		}
		if n <= smallFrame {
			l.deliver(buffer.NewViewWithData(view.AsSlice()[:n]))
			continue
		}
		full := view
		view = buffer.NewViewSize(frameSize)
		full.CapLength(n)
		l.deliver(full)
	}
}

// deliver passes one packet up.
func (l *link) deliver(view *buffer.View) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
	defer pkt.DecRef()
	d := l.dispatcher.Load()
	protocol, ok := l.parse(pkt)
	if d != nil && ok {
		(*d).DeliverNetworkPacket(protocol, pkt)
	}
}

// parse takes the link header off.
func (l *link) parse(pkt *stack.PacketBuffer) (tcpip.NetworkProtocolNumber, bool) {
	if l.dev.ethernet {
		if !l.ParseHeader(pkt) {
			return 0, false
		}
		return header.Ethernet(pkt.LinkHeader().Slice()).Type(), true
	}
	first, ok := pkt.Data().PullUp(1)
	if !ok {
		return 0, false
	}
	switch header.IPVersion(first) {
	case header.IPv4Version:
		return header.IPv4ProtocolNumber, true
	case header.IPv6Version:
		return header.IPv6ProtocolNumber, true
	}
	return 0, false
}

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range pkts.AsSlice() {
		if l.write(pkt.AsSlices()) != nil {
			return i, &tcpip.ErrClosedForSend{}
		}
	}
	return pkts.Len(), nil
}

// write sends one packet. It waits where the device is full.
func (l *link) write(parts [][]byte) error {
	var failed error
	err := l.raw.Write(func(fd uintptr) bool {
		_, failed = unix.Writev(int(fd), parts)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("writev", failed)
}

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return mtu }

// SetMTU implements stack.LinkEndpoint. The device's is fixed.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint.
func (l *link) MaxHeaderLength() uint16 {
	if l.dev.ethernet {
		return header.EthernetMinimumSize
	}
	return 0
}

// LinkAddress implements stack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return tcpip.LinkAddress(l.dev.mac) }

// SetLinkAddress implements stack.LinkEndpoint. The device's is fixed.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint. Nothing is lost between two ends
// of one machine's memory, and a packet socket delivers checksums that are not
// filled in yet: none is verified.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	if l.dev.ethernet {
		return stack.CapabilityRXChecksumOffload | stack.CapabilityResolutionRequired
	}
	return stack.CapabilityRXChecksumOffload
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// Wait implements stack.LinkEndpoint. There is nothing to wait for after stop.
func (l *link) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType {
	if l.dev.ethernet {
		return header.ARPHardwareEther
	}
	return header.ARPHardwareNone
}

// AddHeader implements stack.LinkEndpoint.
func (l *link) AddHeader(pkt *stack.PacketBuffer) {
	if !l.dev.ethernet {
		return
	}
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (l *link) ParseHeader(pkt *stack.PacketBuffer) bool {
	if !l.dev.ethernet {
		return true
	}
	_, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// Close implements stack.LinkEndpoint. The device outlives the stack.
func (l *link) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (l *link) SetOnCloseAction(func()) {}
