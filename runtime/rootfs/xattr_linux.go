package rootfs

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Extended attributes of a name are reached through /proc/self/fd/N/name,
// which leads from the open directory to a link that is not followed: the
// *xattrat system calls are too young (Linux 6.13) to rely on.

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// namePath is a path of name for this process; it begins at the descriptor.
func (d *Dir) namePath(name string) (string, error) {
	if err := plain(name); err != nil {
		return "", err
	}
	return fdPath(d.fd) + "/" + name, nil
}

// Xattrs returns the extended attributes of name; "" is the directory itself.
// A file system without any has none.
func (d *Dir) Xattrs(name string) (map[string]string, error) {
	var attrs map[string]string
	var err error
	if name == "" {
		attrs, err = FileXattrs(d.fd)
	} else {
		var p string
		if p, err = d.namePath(name); err == nil {
			attrs, err = readXattrs(xattrs{
				list: func(buf []byte) (int, error) { return unix.Llistxattr(p, buf) },
				get:  func(attr string, buf []byte) (int, error) { return unix.Lgetxattr(p, attr, buf) },
			})
		}
	}
	if err != nil {
		return nil, d.fail("read extended attributes of", name, err)
	}
	return attrs, nil
}

// Setxattr sets one extended attribute of name; "" is the directory itself.
func (d *Dir) Setxattr(name, attr, value string) error {
	var err error
	if name == "" {
		err = unix.Fsetxattr(d.fd, attr, []byte(value), 0)
	} else {
		var p string
		if p, err = d.namePath(name); err == nil {
			err = unix.Lsetxattr(p, attr, []byte(value), 0)
		}
	}
	if err != nil {
		return d.fail("set extended attribute "+attr+" of", name, err)
	}
	return nil
}

// Removexattr removes one extended attribute of name; "" is the directory
// itself. One that is not there is ENODATA.
func (d *Dir) Removexattr(name, attr string) error {
	var err error
	if name == "" {
		err = unix.Fremovexattr(d.fd, attr)
	} else {
		var p string
		if p, err = d.namePath(name); err == nil {
			err = unix.Lremovexattr(p, attr)
		}
	}
	if err != nil {
		return d.fail("remove extended attribute "+attr+" of", name, err)
	}
	return nil
}

// FileXattrs returns the extended attributes of an open file or directory
// (nil when there are none). It does not work on an O_PATH handle.
func FileXattrs(fd int) (map[string]string, error) {
	return readXattrs(xattrs{
		list: func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		get:  func(attr string, buf []byte) (int, error) { return unix.Fgetxattr(fd, attr, buf) },
	})
}

// xattrs are the system calls for one file. Both answer ERANGE when the
// buffer is too small.
type xattrs struct {
	list func(buf []byte) (int, error)
	get  func(attr string, buf []byte) (int, error)
}

func readXattrs(x xattrs) (map[string]string, error) {
	names, err := grow(x.list)
	if errors.Is(err, unix.EOPNOTSUPP) || len(names) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	attrs := map[string]string{}
	for attr := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		value, err := grow(func(buf []byte) (int, error) { return x.get(attr, buf) })
		if errors.Is(err, unix.ENODATA) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		attrs[attr] = value
	}
	return attrs, nil
}

// grow calls read with larger and larger buffers; 64 KiB is the kernel's limit
// for a value and for a list.
func grow(read func([]byte) (int, error)) (string, error) {
	var small [256]byte
	n, err := read(small[:])
	if errors.Is(err, unix.ERANGE) {
		large := make([]byte, 64<<10)
		n, err = read(large)
		if err == nil {
			return string(large[:n]), nil
		}
	}
	if err != nil {
		return "", err
	}
	return string(small[:n]), nil
}
