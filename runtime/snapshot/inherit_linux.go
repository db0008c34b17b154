package snapshot

import (
	"bytes"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// inherit gives the directory dst the owner, permissions and extended
// attributes of src.
func inherit(src, dst string) error {
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return &os.PathError{Op: "stat", Path: src, Err: err}
	}
	// It was made by us just now, with our ids and 0o755.
	if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
		if err := unix.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
			return &os.PathError{Op: "chown", Path: dst, Err: err}
		}
	}
	if mode := st.Mode & 0o7777; mode != 0o755 {
		if err := unix.Chmod(dst, mode); err != nil {
			return &os.PathError{Op: "chmod", Path: dst, Err: err}
		}
	}
	return inheritXattrs(src, dst)
}

func inheritXattrs(src, dst string) error {
	names, err := listXattrs(src)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue // the kernel's own notes about that layer
		}
		if strings.HasPrefix(name, "security.selinux") {
			continue // the host's policy labels new files by itself
		}
		if err := copyXattr(src, dst, name); err != nil {
			return err
		}
	}
	return nil
}

// maxXattr is the kernel's limit for a list of attributes, and for a value.
const maxXattr = 64 << 10

func listXattrs(path string) ([]string, error) {
	// Nearly always there are none, and one call says so.
	buf := make([]byte, 256)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, maxXattr)
		n, err = unix.Llistxattr(path, buf)
	}
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "list extended attributes", Path: path, Err: err}
	}
	var names []string
	for name := range bytes.SplitSeq(buf[:n], []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names, nil
}

func copyXattr(src, dst, name string) error {
	value := make([]byte, maxXattr)
	n, err := unix.Lgetxattr(src, name, value)
	if err != nil {
		return &os.PathError{Op: "read attribute " + name, Path: src, Err: err}
	}
	if err := unix.Lsetxattr(dst, name, value[:n], 0); err != nil {
		return &os.PathError{Op: "set attribute " + name, Path: dst, Err: err}
	}
	return nil
}

// topdirFlag is EXT2_TOPDIR_FL, chattr +T.
const topdirFlag = 0x00020000

// spread makes ext4 put each new directory below dir into a block group of
// its own. Other file systems, which have no such flag, do well without.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		return
	}
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return
	}
	_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topdirFlag)
}
