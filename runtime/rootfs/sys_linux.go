package rootfs

import (
	"golang.org/x/sys/unix"
)

// openat2 opens a path under the given resolution rules. The kernel gives up
// with EAGAIN when it saw a rename somewhere during a lookup with '..'.
func openat2(dirfd int, p string, flags int, mode uint32, resolve uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Mode:    uint64(mode),
		Resolve: resolve,
	}
	for tries := 0; ; {
		fd, err := unix.Openat2(dirfd, p, &how)
		if err == unix.EAGAIN && tries < resolveTries {
			tries++
			continue
		}
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// readlinkat returns the whole target, however long.
func readlinkat(dirfd int, name string) (string, error) {
	var small [256]byte
	for buf := small[:]; ; buf = make([]byte, 4*len(buf)) {
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
	}
}
