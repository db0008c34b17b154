package fileop

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// attrs are what an inode of the destination shall have.
type attrs struct {
	// mode has type and permission bits.
	mode uint32
	// own is nil to leave the owner as it was made.
	own *owner
	// atime and mtime are nil to leave the times.
	atime, mtime *unix.Timespec
	rdev         uint64
	xattrs       []Xattr
}

// setter applies attributes.
type setter struct {
	// single records owners as overrides.
	single bool
}

// file sets the attributes of an open file or directory. The order matters:
// chown clears setuid bits and capabilities, and everything touches the times.
func (s setter) file(fd int, a *attrs) error {
	if err := s.owner(fd, a); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, a.mode&0o7777); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	for _, x := range a.xattrs {
		if err := unix.Fsetxattr(fd, x.Name, []byte(x.Value), 0); unexpected(err) {
			return os.NewSyscallError("fsetxattr "+x.Name, err)
		}
	}
	if a.mtime == nil {
		return nil
	}
	return os.NewSyscallError("utimensat", futimens(fd, a.atime, a.mtime))
}

// owner sets the owner of an open file or directory. Root is what everything
// made here has with a single id, and a device is a file that says it is one.
func (s setter) owner(fd int, a *attrs) error {
	if a.own == nil {
		return nil
	}
	if !s.single {
		return os.NewSyscallError("fchown", unix.Fchown(fd, int(a.own.uid), int(a.own.gid)))
	}
	if *a.own == (owner{}) && !isDevice(a.mode) {
		err := unix.Fremovexattr(fd, tree.OverrideXattr)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
		return os.NewSyscallError("fremovexattr", err)
	}
	o := tree.Override{UID: a.own.uid, GID: a.own.gid, Mode: a.mode}
	if isDevice(a.mode) {
		o.Major, o.Minor = unix.Major(a.rdev), unix.Minor(a.rdev)
	}
	return os.NewSyscallError("fsetxattr", unix.Fsetxattr(fd, tree.OverrideXattr, []byte(o.String()), 0))
}

// chmod changes the mode of an open directory, and of its override.
func (s setter) chmod(fd int, mode uint32) error {
	if err := unix.Fchmod(fd, mode&0o7777); err != nil || !s.single {
		return os.NewSyscallError("fchmod", err)
	}
	found, err := rootfs.FileXattrs(fd)
	if err != nil || found[tree.OverrideXattr] == "" {
		return err
	}
	o, err := tree.ParseOverride(found[tree.OverrideXattr])
	if err != nil {
		return err
	}
	return s.owner(fd, &attrs{mode: mode, own: &owner{o.UID, o.GID}})
}

func isDevice(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR || mode&unix.S_IFMT == unix.S_IFBLK
}

// entry sets the attributes of a symlink, device or FIFO.
func (s setter) entry(d *rootfs.Dir, name string, a *attrs) error {
	if a.own != nil && !s.single {
		if err := d.Lchown(name, int(a.own.uid), int(a.own.gid)); err != nil {
			return err
		}
	}
	if a.mode&unix.S_IFMT != unix.S_IFLNK {
		if err := d.Chmod(name, a.mode); err != nil {
			return err
		}
	}
	for _, x := range a.xattrs {
		if err := d.Setxattr(name, x.Name, x.Value); unexpected(err) {
			return err
		}
	}
	if a.mtime == nil {
		return nil
	}
	return d.Utimes(name, *a.atime, *a.mtime)
}

// node makes a device or FIFO.
func (s setter) node(d *rootfs.Dir, name string, a *attrs) error {
	if s.single && isDevice(a.mode) {
		return s.stub(d, name, a)
	}
	if err := d.Mknod(name, a.mode, a.rdev); err != nil {
		return err
	}
	return s.entry(d, name, a)
}

// stub makes an empty file that says it is a device.
func (s setter) stub(d *rootfs.Dir, name string, a *attrs) error {
	fd, err := d.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	withOwner := *a
	if a.own == nil {
		withOwner.own = &owner{}
	}
	return errors.Join(s.file(fd, &withOwner), unix.Close(fd))
}

// unexpected tells the errors of setting an extended attribute that are not
// just the kernel, the file system or our rights refusing it. BuildKit ignores
// these too: a copy of a labelled file must succeed where labels do not exist.
func unexpected(err error) bool {
	for _, refusal := range [...]error{unix.EOPNOTSUPP, unix.EPERM, unix.EACCES, unix.EINVAL} {
		if errors.Is(err, refusal) {
			return false
		}
	}
	return err != nil
}

// futimens sets the times of an open file: utimensat without a path.
func futimens(fd int, atime, mtime *unix.Timespec) error {
	ts := [2]unix.Timespec{*atime, *mtime}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
