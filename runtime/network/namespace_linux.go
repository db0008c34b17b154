package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mtu of the private network. The largest that an IP packet allows, since
// each packet crosses nothing but this machine's memory.
const mtu = 65520

// device is the end of a private network that the user-mode stack reads and
// writes.
type device struct {
	file *os.File
	// ethernet is true for a packet socket, whose frames have a header.
	ethernet bool
	mac      net.HardwareAddr // our end's
	peer     net.HardwareAddr // the namespace's
	// keep holds the second namespace of a veth pair open.
	keep *os.File
}

func (d *device) Close() error {
	if d.keep != nil {
		return errors.Join(d.file.Close(), d.keep.Close())
	}
	return d.file.Close()
}

// inNewNamespace runs fn on a thread of its own in a new network namespace
// and returns the namespace. The thread is not reused: it ends with the
// goroutine, because it is still locked then.
func inNewNamespace(fn func() error) (*os.File, error) {
	type result struct {
		ns  *os.File
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		ns, err := unshareNamespace()
		if err == nil && fn != nil {
			if err = fn(); err != nil {
				err = errors.Join(err, ns.Close())
				ns = nil
			}
		}
		done <- result{ns, err}
	}()
	r := <-done
	return r.ns, r.err
}

func unshareNamespace() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	return os.Open("/proc/thread-self/ns/net")
}

// newNamespace makes a network namespace with loopback up, and runs fn in it.
func newNamespace(fn func() error) (*os.File, error) {
	return inNewNamespace(func() error {
		if err := errors.Join(loopbackUp(), relax()); err != nil {
			return err
		}
		if fn == nil {
			return nil
		}
		return fn()
	})
}

// loopbackUp uses one ioctl: a netlink socket costs ten times as much.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return os.NewSyscallError("ioctl SIOCSIFFLAGS", unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req))
}

// newPrivateNamespace makes a namespace with a device that leads to us.
func newPrivateNamespace(ipv6 bool) (ns *os.File, dev *device, err error) {
	var tunErr error
	ns, err = newNamespace(func() error {
		var tun *os.File
		if tun, tunErr = openTun(); tunErr != nil {
			return tunErr
		}
		if err := configure("eth0", ipv6, false); err != nil {
			return errors.Join(err, tun.Close())
		}
		dev = &device{file: tun}
		return nil
	})
	if tunErr != nil {
		return newVethNamespace(ipv6, tunErr)
	}
	return ns, dev, err
}

// openTun makes eth0 in the current namespace: a TUN device belongs to the
// namespace in which its descriptor was opened. It is opened without the
// os package, which would ask the poller about a device that is not there yet.
func openTun() (*os.File, error) {
	const name = "/dev/net/tun"
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	req, err := unix.NewIfreq("eth0")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err == nil {
		// A persistent device is not removed when its descriptor is closed,
		// which would take 20 ms and hold the step up, but with its
		// namespace, which the kernel removes in its own time.
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "ioctl TUNSETIFF", Path: name, Err: err}, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// newVethNamespace is for users who may not open /dev/net/tun.
func newVethNamespace(ipv6 bool, tunErr error) (ns *os.File, dev *device, err error) {
	dev = &device{ethernet: true}
	outer, err := newNamespace(func() error {
		var e error
		ns, e = newVethPair(dev, ipv6)
		return e
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w, and a veth pair: %w", ErrNoDevice, tunErr, err)
	}
	dev.keep = outer
	return ns, dev, nil
}

// newVethPair runs in the outer namespace: it makes the inner namespace and a
// pair between both, and opens our end.
func newVethPair(dev *device, ipv6 bool) (*os.File, error) {
	inner, err := newNamespace(nil)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*os.File, error) { return nil, errors.Join(err, inner.Close()) }

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "strata0", mtu
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(inner.Fd())}
	if err := netlink.LinkAdd(pair); err != nil {
		return fail(fmt.Errorf("create veth pair: %w", err))
	}
	link, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return fail(fmt.Errorf("find veth: %w", err))
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fail(fmt.Errorf("bring veth up: %w", err))
	}
	dev.mac = link.Attrs().HardwareAddr
	if dev.file, err = packetSocket(link.Attrs().Index); err != nil {
		return fail(err)
	}
	if dev.peer, err = configureInner(inner, ipv6); err != nil {
		return fail(errors.Join(err, dev.file.Close()))
	}
	return inner, nil
}

// configureInner sets eth0 of another namespace up, on a thread that enters it.
func configureInner(inner *os.File, ipv6 bool) (mac net.HardwareAddr, err error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends in the other namespace
		if err := unix.Setns(int(inner.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			mac = link.Attrs().HardwareAddr
			err = configure("eth0", ipv6, true)
		}
		done <- err
	}()
	err = <-done
	return mac, err
}

// packetBuffer is how much a packet socket should hold, for several streams.
const packetBuffer = 8 << 20

func packetSocket(index int) (*os.File, error) {
	// ETH_P_ALL in network byte order.
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_PACKET", err)
	}
	// The kernel grants what it allows; what does not fit is lost.
	err = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUF, packetBuffer)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("setsockopt SO_RCVBUF", err), unix.Close(s))
	}
	if err := unix.Bind(s, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind AF_PACKET", err), unix.Close(s))
	}
	return os.NewFile(uintptr(s), "packet socket"), nil
}

// configure gives the named device of the current namespace its addresses
// and makes it the default route. The routes name no gateway, so that no
// address of the real network is shadowed but the namespace's own.
func configure(name string, ipv6, ethernet bool) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE) // one socket for all
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer handle.Close()
	link, err := handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	if err := handle.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set MTU of %s: %w", name, err)
	}
	if ethernet {
		// The stack on the other end answers no ARP for the whole world.
		if err := handle.LinkSetARPOff(link); err != nil {
			return fmt.Errorf("switch ARP of %s off: %w", name, err)
		}
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	if err := addAddress(handle, link, AddressIP, netip.IPv4Unspecified()); err != nil {
		return err
	}
	if ipv6 {
		return addAddress(handle, link, address6IP, netip.IPv6Unspecified())
	}
	return nil
}

func addAddress(handle *netlink.Handle, link netlink.Link, addr, any netip.Addr) error {
	bits := addr.BitLen()
	ipnet := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, bits)}
	// NODAD: an address that is being checked for duplicates cannot be used.
	if err := handle.AddrAdd(link, &netlink.Addr{IPNet: ipnet, Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("add address %s: %w", addr, err)
	}
	dst := &net.IPNet{IP: any.AsSlice(), Mask: net.CIDRMask(0, bits)}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK}
	if addr.Is6() {
		route.Scope = netlink.SCOPE_UNIVERSE
	}
	if err := handle.RouteAdd(route); err != nil {
		return fmt.Errorf("add default route: %w", err)
	}
	return nil
}
