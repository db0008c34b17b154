package fileop

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// extractor unpacks an archive as ADD does. The destination is the root of all
// names in the archive: '..' stops there, and so do absolute symlinks, both
// those in the archive and those that were there before. Unlike in a layer,
// '.wh.' names mean nothing.
type extractor struct {
	ctx  context.Context
	root *rootfs.Root
	set  setter
	own  *owner // overrides the archive's owners
	opt  ExtractOptions
	buf  []byte
	dirs []dirTimes
	// last is the open parent directory of the last entry.
	last     *rootfs.Dir
	lastPath string
}

// dirTimes are set when everything is unpacked.
type dirTimes struct {
	path         string
	atime, mtime unix.Timespec
}

func (x *extractor) archive(r io.Reader) (err error) {
	defer func() { err = errors.Join(err, x.forget()) }()
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return x.setTimes()
		}
		if err != nil {
			return err
		}
		if err := x.entry(hdr, tr); err != nil {
			return fmt.Errorf("entry %q: %w", hdr.Name, err)
		}
		if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
	}
}

func (x *extractor) setTimes() error {
	for _, d := range x.dirs {
		if err := x.setTime(d); err != nil {
			return fmt.Errorf("set the time of directory %q: %w", d.path, err)
		}
	}
	return nil
}

// setTime sets the time of what is found at a directory's path. As in
// BuildKit, that is what a later entry has put there, or where a symlink among
// those leads; and it has to exist.
func (x *extractor) setTime(d dirTimes) error {
	dir, err := x.root.OpenDir(d.path)
	if err == nil {
		return errors.Join(futimens(dir.FD(), &d.atime, &d.mtime), dir.Close())
	}
	if !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	p, err := x.root.Resolve(d.path)
	if err != nil {
		return err
	}
	dir, name, err := x.root.OpenParent(p)
	if err != nil {
		return err
	}
	return errors.Join(dir.Utimes(name, d.atime, d.mtime), dir.Close())
}

// forget closes the cached parent directory: it may have been replaced.
func (x *extractor) forget() error {
	if x.last == nil {
		return nil
	}
	d := x.last
	x.last = nil
	return d.Close()
}

func (x *extractor) entry(hdr *tar.Header, r io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	p := path.Join("/", hdr.Name)
	if p == "/" {
		return x.top(hdr)
	}
	dir, err := x.parent(path.Dir(p))
	if err != nil {
		return err
	}
	name := path.Base(p)
	merge, err := x.clear(dir, name, hdr)
	if err != nil {
		return err
	}
	a := x.attrs(hdr)
	switch hdr.Typeflag {
	case tar.TypeDir:
		return x.dir(dir, p, &a, merge)
	case tar.TypeReg: // the old GNU forms of a sparse file and of a contiguous one are refused, as there
		return x.regular(dir, name, &a, r)
	case tar.TypeLink:
		return x.link(dir, name, hdr, &a)
	case tar.TypeSymlink:
		if err := errors.Join(dir.Symlink(hdr.Linkname, name), x.set.entry(dir, name, &a)); err != nil {
			return err
		}
		return x.forget()
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		err := x.set.node(dir, name, &a)
		if errors.Is(err, unix.EPERM) && x.opt.Skipped != nil {
			x.opt.Skipped(p, err)
			return nil
		}
		return err
	}
	return fmt.Errorf("it is of type %q, which is not supported", hdr.Typeflag)
}

// top sets the attributes of the destination itself, when the archive names it
// '/'. As in BuildKit, '.' changes nothing.
func (x *extractor) top(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return errors.New("it would replace the destination directory")
	}
	if path.Clean(hdr.Name) != "/" {
		return nil
	}
	dir, err := x.root.Dir()
	if err != nil {
		return err
	}
	a := x.attrs(hdr)
	x.dirs = append(x.dirs, dirTimes{"/", *a.atime, *a.mtime})
	return errors.Join(x.set.file(dir.FD(), &a), dir.Close())
}

// parent opens the directory of an entry. Those that the archive does not name
// are made.
func (x *extractor) parent(p string) (*rootfs.Dir, error) {
	if x.last != nil && x.lastPath == p {
		return x.last, nil
	}
	if err := x.forget(); err != nil {
		return nil, err
	}
	dir, err := x.root.OpenDir(p)
	if errors.Is(err, fs.ErrNotExist) {
		dir, err = x.mkdirAll(p)
	}
	if err != nil {
		return nil, err
	}
	x.last, x.lastPath = dir, p
	return dir, nil
}

// mkdirAll makes a directory with its parents. As in BuildKit, none is made
// where a symlink leads.
func (x *extractor) mkdirAll(p string) (*rootfs.Dir, error) {
	for q := p; q != "/"; q = path.Dir(q) {
		st, err := x.root.Lstat(q)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			_, err = x.root.Stat(q)
		}
		if err != nil {
			return nil, err
		}
		break
	}
	chown := !x.set.single && x.opt.Owners != OwnersCaller
	return x.root.MkdirAllDir(p, rootfs.MkdirOptions{Mode: 0o755, Chown: chown, KeepSetgid: true})
}

// clear removes what an entry replaces; a directory is merged with one that is
// there.
func (x *extractor) clear(dir *rootfs.Dir, name string, hdr *tar.Header) (merge bool, err error) {
	st, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	isDir, toDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, hdr.Typeflag == tar.TypeDir
	switch {
	case isDir && toDir:
		return true, nil
	case isDir && x.opt.KeepKinds:
		return false, errors.New("a directory is not overwritten by something that is none")
	case toDir && x.opt.KeepKinds:
		return false, errors.New("what is no directory is not overwritten by one")
	case x.opt.KeepKinds:
		if err := notMounted(dir, name); err != nil {
			return false, err
		}
	}
	return false, dir.RemoveAll(name)
}

func (x *extractor) dir(parent *rootfs.Dir, p string, a *attrs, exists bool) error {
	name := path.Base(p)
	if !exists {
		if err := unix.Mkdirat(parent.FD(), name, 0o700); err != nil {
			return fail("mkdir", p, err)
		}
	}
	dir, err := parent.OpenDir(name)
	if err != nil {
		return err
	}
	x.dirs = append(x.dirs, dirTimes{p, *a.atime, *a.mtime})
	return errors.Join(x.set.file(dir.FD(), a), dir.Close())
}

func (x *extractor) regular(dir *rootfs.Dir, name string, a *attrs, r io.Reader) error {
	fd, err := dir.Open(name, createFlags, 0o600)
	if err != nil {
		return err
	}
	if err = x.copy(fd, r); err == nil {
		err = x.set.file(fd, a)
	}
	return errors.Join(err, unix.Close(fd))
}

func (x *extractor) copy(fd int, r io.Reader) error {
	for {
		n, err := r.Read(x.buf)
		if e := writeAll(fd, x.buf[:n]); e != nil {
			return e
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
	}
}

// link makes a hard link; the entry's attributes are for the file it names.
func (x *extractor) link(dir *rootfs.Dir, name string, hdr *tar.Header, a *attrs) error {
	from, old, err := x.root.OpenParent(path.Join("/", hdr.Linkname))
	if err != nil {
		return err
	}
	err = dir.Link(from, old, name)
	if err = errors.Join(err, from.Close()); err != nil {
		return err
	}
	st, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	a.mode = st.Mode&unix.S_IFMT | a.mode&0o7777
	if a.mode&unix.S_IFMT == unix.S_IFLNK {
		a.atime, a.mtime = nil, nil // as in BuildKit, the link keeps its own
	}
	if a.mode&unix.S_IFMT != unix.S_IFREG {
		return x.set.entry(dir, name, a)
	}
	fd, err := dir.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return errors.Join(x.set.file(fd, a), unix.Close(fd))
}

// attrs reads a header.
func (x *extractor) attrs(hdr *tar.Header) attrs {
	a := attrs{
		mode:   typeBits(hdr.Typeflag) | uint32(hdr.Mode)&0o7777,
		own:    x.own,
		rdev:   unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)),
		xattrs: headerXattrs(hdr),
	}
	if a.own == nil && x.opt.Owners == OwnersArchive {
		a.own = &owner{uint32(hdr.Uid), uint32(hdr.Gid)}
	}
	atime := hdr.ModTime
	if hdr.AccessTime.After(atime) {
		atime = hdr.AccessTime
	}
	a.atime, a.mtime = boundTime(atime), boundTime(hdr.ModTime)
	return a
}

func typeBits(flag byte) uint32 {
	switch flag {
	case tar.TypeDir:
		return unix.S_IFDIR
	case tar.TypeSymlink:
		return unix.S_IFLNK
	case tar.TypeChar:
		return unix.S_IFCHR
	case tar.TypeBlock:
		return unix.S_IFBLK
	case tar.TypeFifo:
		return unix.S_IFIFO
	}
	return unix.S_IFREG
}

func headerXattrs(hdr *tar.Header) []Xattr {
	attrs := map[string]string{}
	for key, value := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			attrs[name] = value
		}
	}
	return portable(attrs)
}

// boundTime replaces what a file system may not take by the epoch.
func boundTime(t time.Time) *unix.Timespec {
	ts, err := unix.TimeToTimespec(t)
	if err != nil || ts.Sec < 0 || ts.Sec > 1<<33 {
		ts = unix.Timespec{}
	}
	return &ts
}
