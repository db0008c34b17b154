package transfer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/bounded"
	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// ErrChanged says that a file became shorter while it was read.
var ErrChanged = errors.New("it changed while it was read")

// packer writes what a walk visits to a tar stream. It is a tree.Visitor.
type packer struct {
	ctx  context.Context
	w    *tar.Writer
	name string
	// links are the names of files with several.
	links map[inode]string
	// overrides reads owners that could not be set (tree.Override).
	overrides bool
	written   int64
}

type inode struct{ dev, ino uint64 }

// pack writes a source to w, by the given name, and returns how many bytes its
// files have.
func (s *source) pack(ctx context.Context, w io.Writer, name string, overrides bool) (int64, error) {
	buffered := bufio.NewWriterSize(w, 64<<10)
	p := &packer{ctx: ctx, w: tar.NewWriter(buffered), name: name, links: map[inode]string{}, overrides: overrides}
	err := s.visit(ctx, p)
	if err == nil {
		err = p.w.Close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	return p.written, err
}

func (s *source) visit(ctx context.Context, p *packer) error {
	if s.isDir() {
		root, err := s.Root.Sub(s.Path)
		if err != nil {
			return err
		}
		return errors.Join(tree.WalkLiveRoot(ctx, root, p), root.Close())
	}
	at := s.Path
	if s.link {
		var err error
		if at, err = s.Root.Resolve(at); err != nil {
			return err
		}
	}
	dir, base, err := s.Root.OpenParent(at)
	if err != nil {
		return err
	}
	return errors.Join(p.Enter(&tree.Entry{Dir: dir, Name: base, Stat: s.st}), dir.Close())
}

// Enter implements tree.Visitor.
func (p *packer) Enter(e *tree.Entry) error {
	name := p.name
	if e.Path != "" {
		// Not path.Join, which takes the "./" away.
		name += "/" + e.Path
	}
	if e.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil // it means nothing without who listens
	}
	if err := p.entry(e, name); err != nil {
		// Quoted, and without the path of the error: the name may be hostile.
		return fmt.Errorf("read %q: %w", path.Join("/", name), bare(err))
	}
	if e.IsDir() && kernels(e.Self) {
		return tree.SkipContents
	}
	return p.ctx.Err()
}

// kernels tells a directory of a file system whose files are the kernel's
// answers, such as /proc: as in docker, they are no files of the container.
func kernels(d *rootfs.Dir) bool {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(d.FD(), &fs); err != nil {
		return false
	}
	switch int64(fs.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.SECURITYFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.BPF_FS_MAGIC, mqueueMagic:
		return true
	}
	return false
}

// mqueueMagic is of the file system at /dev/mqueue.
const mqueueMagic = 0x19800202

// Leave implements tree.Visitor.
func (p *packer) Leave(*tree.Entry) error { return nil }

func (p *packer) entry(e *tree.Entry, name string) error {
	if e.Stat.Mode&unix.S_IFMT == unix.S_IFREG {
		return p.regular(e, name)
	}
	attrs, err := e.Xattrs()
	if err != nil {
		return err
	}
	h, err := p.header(&e.Stat, name, attrs)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		if h.Linkname, err = e.Dir.Readlink(e.Name); err != nil {
			return err
		}
	}
	return p.w.WriteHeader(h)
}

// regular writes a file, or the name of one that was written already.
func (p *packer) regular(e *tree.Entry, name string) error {
	f, err := openRegular(e.Dir, e.Name, &e.Stat)
	if err != nil {
		return err
	}
	defer f.Close()
	attrs, err := rootfs.FileXattrs(int(f.Fd()))
	if err != nil {
		return err
	}
	h, err := p.header(&e.Stat, name, attrs)
	if err != nil {
		return err
	}
	if e.Stat.Nlink > 1 {
		key := inode{e.Stat.Dev, e.Stat.Ino}
		first, seen := p.links[key]
		if seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			p.links[key] = name
		}
	}
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyN(p.w, bounded.Reader(p.ctx, f), h.Size)
	p.written += n
	if err == io.EOF {
		return ErrChanged
	}
	return err
}

// openRegular opens a regular file, and nothing else: it is looked at before it
// is opened for reading, and cannot become another in between.
func openRegular(d *rootfs.Dir, name string, st *unix.Stat_t) (*os.File, error) {
	at, err := d.Open(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	if err := unix.Fstat(at, st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.ENOENT // it is something else now
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// header describes a file.
func (p *packer) header(st *unix.Stat_t, name string, attrs map[string]string) (*tar.Header, error) {
	at := *st
	if text, ok := attrs[tree.OverrideXattr]; ok && p.overrides {
		o, err := tree.ParseOverride(text)
		if err != nil {
			return nil, err
		}
		o.Apply(&at)
	}
	h := &tar.Header{
		Typeflag: typeOf(at.Mode), Name: name, Mode: int64(at.Mode & 0o7777), Uid: int(at.Uid), Gid: int(at.Gid),
		ModTime: time.Unix(at.Mtim.Unix()), Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	switch h.Typeflag {
	case tar.TypeReg:
		h.Size = at.Size
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = int64(unix.Major(at.Rdev)), int64(unix.Minor(at.Rdev))
	}
	for attr, value := range attrs {
		if fileop.PortableXattr(attr) {
			h.PAXRecords["SCHILY.xattr."+attr] = value
		}
	}
	return h, nil
}

func typeOf(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return tar.TypeDir
	case unix.S_IFLNK:
		return tar.TypeSymlink
	case unix.S_IFCHR:
		return tar.TypeChar
	case unix.S_IFBLK:
		return tar.TypeBlock
	case unix.S_IFIFO:
		return tar.TypeFifo
	}
	return tar.TypeReg
}
