package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is an open directory. Its methods take one plain name (no slash, not
// "", "." or ".."), and never follow a symlink that stands there. Work on many
// files through it: no path is resolved from the root again. A Dir holds one
// descriptor, which has no finalizer: close it.
type Dir struct {
	fd   int
	path string // for messages only
}

// FD is the descriptor, which belongs to the handle. It can be listed and
// synced, and is what the *at system calls take.
func (d *Dir) FD() int { return d.fd }

// Path is the path that the directory was opened by, for messages.
func (d *Dir) Path() string { return d.path }

// Close releases the handle.
func (d *Dir) Close() error {
	fd := d.fd
	d.fd = -1
	if err := unix.Close(fd); err != nil {
		return &os.PathError{Op: "close", Path: d.path, Err: err}
	}
	return nil
}

// Root returns a root at this directory, independent of the handle.
func (d *Dir) Root() (*Root, error) {
	fd, err := openat(d.fd, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open root", Path: d.path, Err: err}
	}
	return &Root{os.NewFile(uintptr(fd), d.path)}, nil
}

// Dir returns a handle of the root directory itself.
func (r *Root) Dir() (*Dir, error) { return r.OpenDir("/") }

// Stat returns the directory's own attributes.
func (d *Dir) Stat() (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: d.path, Err: err}
	}
	return st, nil
}

// fail names the operation and the path.
func (d *Dir) fail(op, name string, err error) error {
	return &os.PathError{Op: op, Path: path.Join(d.path, name), Err: err}
}

// plain refuses a name that is more than one component, or leads elsewhere.
func plain(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is not a plain file name: %w", name, unix.EINVAL)
	}
	return nil
}

// Lstat returns the attributes of name.
func (d *Dir) Lstat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := plain(name)
	if err == nil {
		err = unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return st, d.fail("stat", name, err)
	}
	return st, nil
}

// Open opens name with open(2) flags, to which O_NOFOLLOW and O_CLOEXEC are
// added, and returns the bare descriptor. With O_CREAT, mode is subject to the
// umask.
func (d *Dir) Open(name string, flags int, mode uint32) (int, error) {
	fd, err := -1, plain(name)
	if err == nil {
		fd, err = openat(d.fd, name, flags|unix.O_NOFOLLOW, mode)
	}
	if err != nil {
		return -1, d.fail("open", name, err)
	}
	return fd, nil
}

// OpenFile is Open that returns a file.
func (d *Dir) OpenFile(name string, flags int, mode uint32) (*os.File, error) {
	fd, err := d.Open(name, flags, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path.Join(d.path, name)), nil
}

// OpenDir opens the directory name.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	fd, err := d.Open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{fd: fd, path: path.Join(d.path, name)}, nil
}

// Readlink returns the target of the symlink name.
func (d *Dir) Readlink(name string) (string, error) {
	target, err := "", plain(name)
	if err == nil {
		target, err = readlinkat(d.fd, name)
	}
	if err != nil {
		return "", d.fail("readlink", name, err)
	}
	return target, nil
}

// Mkdir makes a directory with exactly this mode.
func (d *Dir) Mkdir(name string, mode uint32) error {
	made, err := d.makeDir(name, MkdirOptions{Mode: mode})
	if err != nil {
		return err
	}
	return made.Close()
}

// makeDir makes a directory and returns its handle. It is opened without
// following what a parallel step may have put in its place, and the attributes
// are set through the handle (CVE-2024-45310).
func (d *Dir) makeDir(name string, o MkdirOptions) (*Dir, error) {
	err := plain(name)
	if err == nil {
		err = unix.Mkdirat(d.fd, name, o.Mode&0o777)
	}
	if err != nil {
		return nil, d.fail("mkdir", name, err)
	}
	made, err := d.OpenDir(name)
	if errors.Is(err, unix.EACCES) && d.Chmod(name, 0o700) == nil {
		made, err = d.OpenDir(name) // an ordinary user makes an unreadable directory
	}
	if err != nil {
		return nil, err
	}
	if err := made.setAttributes(o); err != nil {
		made.Close()
		return nil, d.fail("mkdir", name, err)
	}
	return made, nil
}

// setAttributes sets the owner first: chown clears the setuid and setgid bits.
func (d *Dir) setAttributes(o MkdirOptions) error {
	mode := o.Mode & 0o7777
	if o.KeepSetgid {
		st, err := d.Stat()
		if err != nil {
			return err
		}
		mode |= st.Mode & unix.S_ISGID
	}
	if o.Chown {
		if err := unix.Fchown(d.fd, o.UID, o.GID); err != nil {
			return err
		}
	}
	return unix.Fchmod(d.fd, mode)
}

// Symlink makes a symlink to target, stored as it is.
func (d *Dir) Symlink(target, name string) error {
	err := plain(name)
	if err == nil {
		err = unix.Symlinkat(target, d.fd, name)
	}
	if err != nil {
		return d.fail("symlink", name, err)
	}
	return nil
}

// Mknod makes a device, FIFO, socket or empty file with exactly this mode,
// which includes the type.
func (d *Dir) Mknod(name string, mode uint32, dev uint64) error {
	err := plain(name)
	if err == nil {
		err = unix.Mknodat(d.fd, name, mode, int(dev))
	}
	if err != nil {
		return d.fail("mknod", name, err)
	}
	return d.Chmod(name, mode)
}

// Link makes name a hard link to old in from. A symlink is linked itself.
func (d *Dir) Link(from *Dir, old, name string) error {
	err := errors.Join(plain(old), plain(name))
	if err == nil {
		err = unix.Linkat(from.fd, old, d.fd, name, 0)
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: path.Join(from.path, old), New: path.Join(d.path, name), Err: err}
	}
	return nil
}

// Rename moves name to newName in to, replacing what rename(2) replaces.
func (d *Dir) Rename(name string, to *Dir, newName string) error {
	err := errors.Join(plain(name), plain(newName))
	if err == nil {
		err = unix.Renameat(d.fd, name, to.fd, newName)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: path.Join(d.path, name), New: path.Join(to.path, newName), Err: err}
	}
	return nil
}

// Lchown gives name away. It clears setuid and setgid bits: Chmod afterwards.
func (d *Dir) Lchown(name string, uid, gid int) error {
	err := plain(name)
	if err == nil {
		err = unix.Fchownat(d.fd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return d.fail("chown", name, err)
	}
	return nil
}

// Chmod sets the mode of name, which must not be a symlink (EOPNOTSUPP).
func (d *Dir) Chmod(name string, mode uint32) error {
	err := plain(name)
	if err == nil {
		err = unix.Fchmodat(d.fd, name, mode&0o7777, unix.AT_SYMLINK_NOFOLLOW)
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // a kernel before 6.6, or a symlink
		err = chmodByHandle(d.fd, name, mode&0o7777)
	}
	if err != nil {
		return d.fail("chmod", name, err)
	}
	return nil
}

// chmodByHandle is fchmodat2 with AT_SYMLINK_NOFOLLOW for older kernels, as in
// the C libraries.
func chmodByHandle(dirfd int, name string, mode uint32) error {
	fd, err := openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return unix.Chmod(fdPath(fd), mode)
}

// Utimes sets access and modification time of name.
func (d *Dir) Utimes(name string, atime, mtime unix.Timespec) error {
	err := plain(name)
	if err == nil {
		err = unix.UtimesNanoAt(d.fd, name, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return d.fail("utimes", name, err)
	}
	return nil
}
