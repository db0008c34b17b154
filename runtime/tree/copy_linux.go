package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// Copy copies the plain tree src into the directory dst, whole: hard links,
// extended attributes, devices, holes of sparse files, owners and times. What
// stands in the way in dst is replaced; a directory is merged.
func Copy(ctx context.Context, dst, src *rootfs.Root) error {
	g := newGraft(ctx, dst, copyOptions{})
	defer g.abandon()
	return WalkRoot(ctx, src, g)
}

// CopyFile copies the file name, which is not a directory and not there in dst,
// with all its attributes.
func CopyFile(ctx context.Context, dst, src *rootfs.Dir, name string) error {
	e := Entry{Path: name, Dir: src, Name: name}
	var err error
	if e.Stat, err = src.Lstat(name); err != nil {
		return err
	}
	if e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Errorf("copy %s: %w", name, unix.EISDIR)
	}
	return newGraft(ctx, nil, copyOptions{}).make(&e, dst)
}

// FlattenRequest names the layers of Flatten.
type FlattenRequest struct {
	// Layers are the layer directories, bottom first.
	Layers []string
	// Dst is the directory that receives the files.
	Dst *rootfs.Root
	Format
	// Export writes the files for a user, not for Strata: they all belong to
	// the caller, as with docker's local output, overrides are gone, and so
	// are extended attributes that the caller may not set.
	Export bool
	// Skipped is told of each device that Export could not make for want of
	// privileges. Without it, such a device is an error.
	Skipped func(path string, err error)
}

// Flatten writes the merged view of layers to a directory, without mounting.
// What stands in the way there is replaced; a directory is merged.
func Flatten(ctx context.Context, req FlattenRequest) error {
	o := copyOptions{export: req.Export, overrides: req.Overrides(), skipped: req.Skipped}
	g := newGraft(ctx, req.Dst, o)
	defer g.abandon()
	return Walk(ctx, WalkRequest{Layers: req.Layers, Format: req.Format}, g)
}

type copyOptions struct {
	// export: see FlattenRequest.
	export  bool
	skipped func(path string, err error)
	// overrides reads overrides.
	overrides bool
}

// inode identifies a file while its file system is mounted.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// graft copies what a walk visits onto a tree. It is a Visitor.
type graft struct {
	ctx   context.Context
	root  *rootfs.Root
	o     copyOptions
	dirs  []*rootfs.Dir    // handles in the destination, the root first
	links map[inode]string // destination paths of files with several names
	clone bool             // the file systems may share blocks
}

func newGraft(ctx context.Context, root *rootfs.Root, o copyOptions) *graft {
	return &graft{ctx: ctx, root: root, o: o, links: map[inode]string{}, clone: true}
}

// Enter copies an entry. The handle of a directory is kept until Leave.
func (g *graft) Enter(e *Entry) error {
	if e.IsDir() {
		return g.enterDir(e)
	}
	if e.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK && g.o.export {
		return nil // a socket nobody listens on
	}
	return g.file(e, g.dirs[len(g.dirs)-1])
}

func (g *graft) enterDir(e *Entry) error {
	var d *rootfs.Dir
	var err error
	if len(g.dirs) == 0 {
		d, err = g.root.OpenDir("/")
	} else {
		d, err = dirOver(g.dirs[len(g.dirs)-1], e.Name)
	}
	if err != nil {
		return err
	}
	g.dirs = append(g.dirs, d)
	attrs, err := e.Self.Xattrs("")
	if err != nil {
		return err
	}
	return g.attributes(target{fd: d.FD(), path: d.Path()}, &e.Stat, attrs)
}

// Leave sets the directory's times, which its contents no longer change.
func (g *graft) Leave(e *Entry) error {
	d := g.dirs[len(g.dirs)-1]
	g.dirs = g.dirs[:len(g.dirs)-1]
	err := setTimes(target{fd: d.FD(), path: d.Path()}, &e.Stat)
	return errors.Join(err, d.Close())
}

// abandon closes the handles of a walk that failed.
func (g *graft) abandon() {
	for _, d := range g.dirs {
		d.Close()
	}
	g.dirs = nil
}

// dirOver returns the directory name of d, making it in place of what is not a
// directory.
func dirOver(d *rootfs.Dir, name string) (*rootfs.Dir, error) {
	err := d.Mkdir(name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		found, err := d.OpenDir(name)
		if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			return found, err
		}
		if err := d.Remove(name); err != nil {
			return nil, err
		}
		if err := d.Mkdir(name, 0o700); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return d.OpenDir(name)
}

// file copies what is not a directory to d.
func (g *graft) file(e *Entry, d *rootfs.Dir) error {
	if e.Stat.Nlink > 1 {
		first, ok := g.links[inodeOf(&e.Stat)]
		if ok {
			return g.link(first, d, e.Name)
		}
		g.links[inodeOf(&e.Stat)] = e.Path
	}
	err := g.make(e, d)
	if errors.Is(err, unix.EEXIST) {
		if err := d.RemoveAll(e.Name); err != nil {
			return err
		}
		err = g.make(e, d)
	}
	return err
}

func (g *graft) link(first string, d *rootfs.Dir, name string) error {
	from, old, err := g.root.OpenParent(first)
	if err != nil {
		return err
	}
	defer from.Close()
	err = d.Link(from, old, name)
	if errors.Is(err, unix.EEXIST) {
		if err := d.RemoveAll(name); err != nil {
			return err
		}
		err = d.Link(from, old, name)
	}
	return err
}

// make makes the file with all its attributes; EEXIST when there is one.
func (g *graft) make(e *Entry, d *rootfs.Dir) error {
	if e.Stat.Mode&unix.S_IFMT == unix.S_IFREG && (e.Stat.Size > 0 || !g.o.export || !g.o.overrides) {
		return g.regular(e, d)
	}
	attrs, err := e.Xattrs()
	if err != nil {
		return err
	}
	st, err := g.intended(e, attrs)
	if err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return g.regular(e, d)
	case unix.S_IFLNK:
		var text string
		if text, err = e.Dir.Readlink(e.Name); err == nil {
			err = d.Symlink(text, e.Name)
		}
	default:
		err = d.Mknod(e.Name, st.Mode, st.Rdev)
		if errors.Is(err, unix.EPERM) && g.o.export && g.o.skipped != nil {
			g.o.skipped(e.Path, err)
			return nil
		}
	}
	if err != nil {
		return err
	}
	t := target{fd: -1, dir: d, name: e.Name, path: e.Path}
	if err := g.attributes(t, &st, attrs); err != nil {
		return err
	}
	return setTimes(t, &st)
}

// intended returns what to make: an export makes what an override stands for.
func (g *graft) intended(e *Entry, attrs map[string]string) (unix.Stat_t, error) {
	st := e.Stat
	text, ok := attrs[OverrideXattr]
	if !ok || !g.o.export || !g.o.overrides {
		return st, nil
	}
	o, err := ParseOverride(text)
	if err != nil {
		return st, fmt.Errorf("copy %s: %w", e.Path, err)
	}
	o.Apply(&st)
	return st, nil
}

func (g *graft) regular(e *Entry, d *rootfs.Dir) error {
	in, err := e.Dir.Open(e.Name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := d.Open(e.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = g.fill(out, in, &e.Stat); err != nil {
		err = fmt.Errorf("copy %s: %w", e.Path, err)
	}
	if err == nil {
		err = g.attributesOf(in, target{fd: out, path: e.Path}, &e.Stat)
	}
	return errors.Join(err, unix.Close(out))
}

// attributesOf gives t the attributes and times of the open file in.
func (g *graft) attributesOf(in int, t target, st *unix.Stat_t) error {
	attrs, err := rootfs.FileXattrs(in)
	if err != nil {
		return t.fail("read extended attributes of", err)
	}
	if err := g.attributes(t, st, attrs); err != nil {
		return err
	}
	return setTimes(t, st)
}

// fill copies a file's content: by sharing its blocks where the file system
// can, else by reading and writing, which is faster than copy_file_range.
func (g *graft) fill(out, in int, st *unix.Stat_t) error {
	if st.Size == 0 {
		return nil
	}
	if g.clone {
		if unix.IoctlFileClone(out, in) == nil {
			return nil
		}
		g.clone = false
	}
	c := dataCopy{ctx: g.ctx, out: out, in: in}
	if st.Blocks*512 >= st.Size {
		return c.span(0, st.Size)
	}
	return c.sparse(st.Size)
}

type dataCopy struct {
	ctx     context.Context
	out, in int
}

// sparse copies the data between the holes.
func (c dataCopy) sparse(size int64) error {
	for at := int64(0); at < size; {
		data, err := unix.Seek(c.in, at, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			break
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(c.in, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := c.span(data, end); err != nil {
			return err
		}
		at = end
	}
	return unix.Ftruncate(c.out, size)
}

// copyBuffers hold pieces of files.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

func (c dataCopy) span(at, end int64) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for at < end {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		piece := (*buf)[:min(int64(len(*buf)), end-at)]
		n, err := pread(c.in, piece, at)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF // it shrank
		}
		if err := pwrite(c.out, piece[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

func pread(fd int, p []byte, at int64) (int, error) {
	for {
		n, err := unix.Pread(fd, p, at)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func pwrite(fd int, p []byte, at int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// target is a file that attributes are set on: by its descriptor, or by name
// where there is none.
type target struct {
	fd   int
	dir  *rootfs.Dir
	name string
	path string // for messages
}

// attributes gives t an owner, extended attributes and a mode. The owner goes
// first: a change of it clears capabilities and setuid bits.
func (g *graft) attributes(t target, st *unix.Stat_t, attrs map[string]string) error {
	if !g.o.export {
		if err := t.chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if private(name) || g.o.export && name == OverrideXattr {
			continue
		}
		err := t.setxattr(name, attrs[name])
		if g.o.export && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return t.chmod(st.Mode)
}

func (t target) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, t.path, err)
}

func (t target) chown(uid, gid int) error {
	if t.fd < 0 {
		return t.dir.Lchown(t.name, uid, gid)
	}
	return t.fail("chown", unix.Fchown(t.fd, uid, gid))
}

func (t target) setxattr(name, value string) error {
	if t.fd < 0 {
		return t.dir.Setxattr(t.name, name, value)
	}
	return t.fail("set extended attribute "+name+" of", unix.Fsetxattr(t.fd, name, []byte(value), 0))
}

// chmod sets the permissions; a symlink has none.
func (t target) chmod(mode uint32) error {
	if mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	if t.fd < 0 {
		return t.dir.Chmod(t.name, mode)
	}
	return t.fail("chmod", unix.Fchmod(t.fd, mode&0o7777))
}

// setTimes gives t the access and modification time of st.
func setTimes(t target, st *unix.Stat_t) error {
	if t.fd < 0 {
		return t.dir.Utimes(t.name, st.Atim, st.Mtim)
	}
	return t.fail("set times of", Futimens(t.fd, st.Atim, st.Mtim))
}

// Futimens sets the access and modification time of an open file.
func Futimens(fd int, atime, mtime unix.Timespec) error {
	times := [2]unix.Timespec{atime, mtime}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
