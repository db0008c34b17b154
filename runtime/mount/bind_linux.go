package mount

import (
	"cmp"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Bind returns a detached clone of the mount tree at src, which may be a
// directory or a file. The clone is private: mounts made on the host later do
// not appear in it.
func Bind(src *os.File, o BindOptions) (*os.File, error) {
	flags := uint(unix.AT_EMPTY_PATH | unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	recursive := uint(0)
	if o.Recursive {
		recursive = unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(int(src.Fd()), "", flags|recursive)
	if err != nil {
		return nil, &os.PathError{Op: "clone mount of", Path: src.Name(), Err: err}
	}
	attr := &unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if o.ReadOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	// The flag on the clone, not on a later remount: there is no moment at
	// which the source can be written through it.
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|recursive, attr); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "set attributes of mount of", Path: src.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), src.Name()), nil
}

// Tmpfs returns a new, detached tmpfs.
func Tmpfs(o TmpfsOptions) (*os.File, error) {
	c, err := newContext("tmpfs", cmp.Or(o.Source, "tmpfs"))
	if err != nil {
		return nil, err
	}
	defer c.close()
	opts := []option{{name: "mode", value: strconv.FormatUint(uint64(tmpfsMode(o.Mode)), 8)}}
	if o.Size > 0 {
		opts = append(opts, option{name: "size", value: strconv.FormatInt(o.Size, 10)})
	}
	for _, opt := range opts {
		if err := c.set(opt); err != nil {
			return nil, c.fail("set tmpfs option", opt.name, err)
		}
	}
	return c.mount("tmpfs", tmpfsAttributes(o))
}

func tmpfsMode(mode os.FileMode) uint32 {
	if mode == 0 {
		return 0o1777
	}
	bits := uint32(mode.Perm())
	for flag, bit := range map[os.FileMode]uint32{
		os.ModeSticky: unix.S_ISVTX,
		os.ModeSetuid: unix.S_ISUID,
		os.ModeSetgid: unix.S_ISGID,
	} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

func tmpfsAttributes(o TmpfsOptions) int {
	attrs := 0
	if o.NoExec {
		attrs |= unix.MOUNT_ATTR_NOEXEC
	}
	if o.NoSuid {
		attrs |= unix.MOUNT_ATTR_NOSUID
	}
	if o.NoDev {
		attrs |= unix.MOUNT_ATTR_NODEV
	}
	return attrs
}

// Attach mounts the detached mount m on target, which is open (O_PATH will
// do), in the calling thread's mount namespace.
func Attach(m, target *os.File) error {
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(int(m.Fd()), "", int(target.Fd()), "", flags); err != nil {
		return &os.PathError{Op: "attach mount on", Path: target.Name(), Err: err}
	}
	return nil
}
