package network

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// docker's settings of a network that is a container's own: whoever is in it
// may bind any port, and may ping without a capability.
const (
	unprivilegedPorts = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
	pingGroups        = "/proc/sys/net/ipv4/ping_group_range"
)

// relax applies them to the current namespace. Where /proc/sys is read-only, as
// inside of a container, the namespace stays as the kernel makes it.
func relax() error {
	err := set(unprivilegedPorts, "0")
	if err == nil {
		err = set(pingGroups, "0 2147483647")
	}
	if errors.Is(err, unix.EINVAL) {
		// The kernel takes only groups that the user namespace has. Of those,
		// root's is always there.
		err = set(pingGroups, "0 0")
	}
	if errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// set writes a setting without the os package, which would ask the poller
// about it: twice the time.
func set(name, value string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	_, err = unix.Write(fd, []byte(value))
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}
