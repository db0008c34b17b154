package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ResolveFlags change how the last component of a path is looked up.
type ResolveFlags uint

const (
	// NoFollow opens a symlink in the last component itself.
	NoFollow ResolveFlags = 1 << iota
	// Directory refuses anything that is not a directory.
	Directory
)

var (
	// ErrNotRegular says that a file to be read is a device, FIFO, socket or
	// directory.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge says that a file to be read is larger than allowed.
	ErrTooLarge = errors.New("file is too large")
)

// inRoot is how every path is resolved.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// resolveTries bounds how often a lookup that the kernel gave up because of a
// concurrent rename is repeated, as in filepath-securejoin.
const resolveTries = 128

// Root is an open directory that paths are resolved in as after chroot:
// absolute symlinks start again at the root, and '..' stops there.
// It is safe for concurrent use.
type Root struct{ f *os.File }

// Open returns the root at the directory f (for example a detached mount). It
// works on its own duplicate: the caller still closes f.
func Open(f *os.File) (*Root, error) {
	fd, err := openat2(int(f.Fd()), ".", unix.O_PATH|unix.O_DIRECTORY, 0, inRoot)
	if err != nil {
		return nil, &os.PathError{Op: "open root", Path: f.Name(), Err: err}
	}
	return &Root{os.NewFile(uintptr(fd), f.Name())}, nil
}

// OpenDir returns the root at a trusted host path.
func OpenDir(dir string) (*Root, error) {
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open root", Path: dir, Err: err}
	}
	return &Root{os.NewFile(uintptr(fd), dir)}, nil
}

// Close releases the root.
func (r *Root) Close() error { return r.f.Close() }

// File is the root directory itself, an O_PATH handle. It belongs to the root.
func (r *Root) File() *os.File { return r.f }

func (r *Root) fd() int { return int(r.f.Fd()) }

// open resolves p and opens it.
func (r *Root) open(op, p string, flags int) (int, error) {
	fd, err := openat2(r.fd(), nonEmpty(p), flags, 0, inRoot)
	if err != nil {
		return -1, &os.PathError{Op: op, Path: p, Err: err}
	}
	return fd, nil
}

// OpenPath returns an O_PATH handle of p.
func (r *Root) OpenPath(p string, flags ResolveFlags) (*os.File, error) {
	how := unix.O_PATH
	if flags&NoFollow != 0 {
		how |= unix.O_NOFOLLOW
		p = trimSlashes(p)
	}
	if flags&Directory != 0 {
		how |= unix.O_DIRECTORY
	}
	fd, err := r.open("open", p, how)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), p), nil
}

// OpenFile opens p with open(2) flags. With O_CREAT it does not follow a
// symlink that stands in the last component, but fails with ELOOP; mode is then
// subject to the umask. Opening a FIFO or device has that file's own effects:
// see [Root.ReadFile] for a safe read.
func (r *Root) OpenFile(p string, flags int, mode uint32) (*os.File, error) {
	if flags&unix.O_CREAT == 0 {
		fd, err := r.open("open", p, flags)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), p), nil
	}
	d, name, err := r.OpenParent(p)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.OpenFile(name, flags, mode)
}

// Stat returns the attributes of p, following a symlink in the last component.
func (r *Root) Stat(p string) (unix.Stat_t, error) { return r.stat(p, 0) }

// Lstat returns the attributes of p, and does not follow a symlink in the last
// component.
func (r *Root) Lstat(p string) (unix.Stat_t, error) {
	return r.stat(trimSlashes(p), unix.O_NOFOLLOW)
}

func (r *Root) stat(p string, flags int) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.open("stat", p, unix.O_PATH|flags)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: p, Err: err}
	}
	return st, nil
}

// Readlink returns the target of the symlink p.
func (r *Root) Readlink(p string) (string, error) {
	fd, err := r.open("readlink", trimSlashes(p), unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	target, err := readlinkat(fd, "")
	if errors.Is(err, unix.ENOENT) { // what readlinkat says of an O_PATH handle of something else
		err = unix.EINVAL
	}
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: p, Err: err}
	}
	return target, nil
}

// ReadFile reads the regular file p, which may hold limit bytes at most. It
// opens nothing else (ErrNotRegular), so that a FIFO does not block it nor a
// device react; see CVE-2024-9676.
func (r *Root) ReadFile(p string, limit int64) ([]byte, error) {
	st, err := r.Stat(p)
	if err != nil {
		return nil, err
	}
	if err := readable(&st, limit); err != nil {
		return nil, &os.PathError{Op: "read", Path: p, Err: err}
	}
	// The file may have been swapped since, so nothing may block here, and
	// the second look decides.
	f, err := r.OpenFile(p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readRegular(f, limit)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: p, Err: err}
	}
	return data, nil
}

func readRegular(f *os.File, limit int64) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if err := readable(&st, limit); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit { // grew, or a file of procfs
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, limit)
	}
	return data, nil
}

func readable(st *unix.Stat_t, limit int64) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%w: it is %s", ErrNotRegular, typeName(st.Mode))
	}
	if st.Size > limit {
		return fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrTooLarge, st.Size, limit)
	}
	return nil
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFLNK:
		return "a symlink"
	default:
		return "a device"
	}
}

// Sub returns the root at the directory p. Paths in it cannot leave p.
func (r *Root) Sub(p string) (*Root, error) {
	f, err := r.OpenPath(p, Directory)
	if err != nil {
		return nil, err
	}
	return &Root{f}, nil
}

// OpenDir returns a handle of the directory p.
func (r *Root) OpenDir(p string) (*Dir, error) {
	fd, err := r.open("open directory", p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &Dir{fd: fd, path: path.Join("/", p)}, nil
}

// OpenParent returns a handle of the directory that holds p, and p's last
// name, which is not looked up. The root itself has no parent: EINVAL. A last
// component '.' or '..' is resolved first, as the kernel would.
func (r *Root) OpenParent(p string) (*Dir, string, error) {
	dir, name := splitLast(p)
	if name == "." || name == ".." {
		canonical, err := r.Resolve(p)
		if err != nil {
			return nil, "", err
		}
		dir, name = splitLast(canonical)
	}
	if name == "" {
		return nil, "", &os.PathError{Op: "open parent of", Path: p, Err: unix.EINVAL}
	}
	d, err := r.OpenDir(dir)
	if err != nil {
		return nil, "", err
	}
	return d, name, nil
}

// inParent runs f on the directory that holds p.
func (r *Root) inParent(p string, f func(d *Dir, name string) error) error {
	d, name, err := r.OpenParent(p)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(d, name)
}

// Symlink makes p a symlink to target, stored as it is.
func (r *Root) Symlink(target, p string) error {
	return r.inParent(p, func(d *Dir, name string) error { return d.Symlink(target, name) })
}

// Remove removes the file or the empty directory p.
func (r *Root) Remove(p string) error {
	return r.inParent(p, func(d *Dir, name string) error { return d.Remove(name) })
}

// RemoveAll removes p and what is below, never following a symlink. A p that
// is not there is no error.
func (r *Root) RemoveAll(p string) error {
	err := r.inParent(p, func(d *Dir, name string) error { return d.RemoveAll(name) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Rename moves from to to, replacing what rename(2) replaces.
func (r *Root) Rename(from, to string) error {
	return r.inParent(from, func(src *Dir, name string) error {
		return r.inParent(to, func(dst *Dir, newName string) error {
			return src.Rename(name, dst, newName)
		})
	})
}

// splitLast returns the directory part and the last name of p; name is "" for
// the root.
func splitLast(p string) (dir, name string) {
	p = trimSlashes(p)
	i := strings.LastIndexByte(p, '/')
	return p[:i+1], p[i+1:]
}

// trimSlashes removes trailing slashes, which would make the kernel follow a
// symlink that stands there.
func trimSlashes(p string) string {
	for len(p) > 1 && p[len(p)-1] == '/' {
		p = p[:len(p)-1]
	}
	return p
}

func nonEmpty(p string) string {
	if p == "" {
		return "."
	}
	return p
}
