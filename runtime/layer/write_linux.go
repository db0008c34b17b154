package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// Names with which a layer tar marks deletions.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = whiteoutPrefix + whiteoutPrefix // of aufs' own files
	opaqueName     = metaPrefix + ".opq"
)

var (
	// ErrWhiteoutName says that a file's own name means a deletion in a layer.
	ErrWhiteoutName = errors.New("a name that begins with .wh. marks a deletion in an image layer, so no file of that name can be stored in one")
	// ErrChanged says that a file changed while it was read.
	ErrChanged = errors.New("the file changed while it was read")
)

// WriteOptions say how a tar is written.
type WriteOptions struct {
	// Epoch is the upper bound of the times written; zero keeps them.
	Epoch time.Time
	// Changing takes files as they are when they come along: one that goes
	// away is left out, and one that shrinks is filled up with zeros, where it
	// would be an error otherwise.
	Changing bool
	tree.Format
}

// WriteTar writes the layer directory dir as an uncompressed layer tar.
func WriteTar(ctx context.Context, w io.Writer, dir string, o WriteOptions) error {
	req := tree.WalkRequest{Layers: []string{dir}, Format: o.Format, Raw: true, Changing: o.Changing}
	return writeTar(ctx, w, req, o.Epoch)
}

// FlattenTar writes the merged view of layer directories, bottom first, as a
// plain tar: a whole file system, without whiteouts.
func FlattenTar(ctx context.Context, w io.Writer, layers []string, o WriteOptions) error {
	req := tree.WalkRequest{Layers: layers, Format: o.Format, Changing: o.Changing}
	return writeTar(ctx, w, req, o.Epoch)
}

func writeTar(ctx context.Context, w io.Writer, req tree.WalkRequest, epoch time.Time) error {
	tw := tarWriter{
		ctx:       ctx,
		w:         w,
		layer:     req.Raw,
		changing:  req.Changing,
		overrides: req.Overrides(),
		epoch:     epoch,
		buf:       make([]byte, 0, tarBuffer),
		links:     map[fileID]string{},
		noatime:   unix.O_NOATIME,
	}
	if err := tree.Walk(ctx, req, &tw); err != nil {
		return err
	}
	tw.buf = append(tw.buf, make([]byte, 2*blockSize)...)
	return tw.flush()
}

// tarBuffer is how much is handed on at once.
const tarBuffer = 256 << 10

// tarWriter writes what a walk visits. Headers and small files are gathered in
// one buffer, which files are read into directly.
type tarWriter struct {
	ctx       context.Context
	w         io.Writer
	layer     bool // a single layer, with its marks
	changing  bool
	overrides bool
	epoch     time.Time
	buf       []byte
	links     map[fileID]string // first names of files that have several
	noatime   int               // O_NOATIME, until it is refused
}

// fileID identifies a file during a walk.
type fileID struct{ dev, ino uint64 }

// Enter writes one entry. The root directory itself is left out, as containerd
// does: what it looks like is not a layer's to say.
func (t *tarWriter) Enter(e *tree.Entry) error {
	if e.Dir == nil {
		return nil
	}
	if err := t.entry(e); err != nil {
		return fmt.Errorf("write %s to tar: %w", e.Path, err)
	}
	return nil
}

// Leave has nothing to do: a tar does not close directories.
func (t *tarWriter) Leave(*tree.Entry) error { return nil }

func (t *tarWriter) entry(e *tree.Entry) error {
	switch {
	case t.layer && strings.HasPrefix(e.Name, whiteoutPrefix):
		return ErrWhiteoutName
	case t.layer && tree.IsWhiteout(&e.Stat):
		return t.mark(path.Join(path.Dir(e.Path), whiteoutPrefix+e.Name))
	case e.IsDir():
		return t.directory(e)
	case e.Stat.Mode&unix.S_IFMT == unix.S_IFREG:
		return t.regular(e)
	default:
		return t.special(e)
	}
}

// mark writes a whiteout or an opaque mark: an empty file with neither owner
// nor time, as containerd's.
func (t *tarWriter) mark(name string) error {
	return t.header(&header{name: name, typeflag: typeRegular})
}

func (t *tarWriter) directory(e *tree.Entry) error {
	attrs, err := e.Xattrs()
	if err != nil {
		return err
	}
	h, err := t.describe(e, attrs)
	if err != nil {
		return err
	}
	h.name += "/"
	h.typeflag = typeDirectory
	if err := t.header(h); err != nil || !e.Opaque || !t.layer {
		return err
	}
	return t.mark(h.name + opaqueName)
}

// special writes symlinks, devices and FIFOs, which have no extended attributes
// that a layer keeps.
func (t *tarWriter) special(e *tree.Entry) error {
	h, err := t.describe(e, nil)
	if err != nil {
		return err
	}
	switch e.Stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		h.typeflag = typeSymlink
		h.link, err = e.Dir.Readlink(e.Name)
		if err != nil {
			return err
		}
	case unix.S_IFIFO:
		h.typeflag = typeFIFO
	case unix.S_IFCHR, unix.S_IFBLK:
		setDevice(h, &e.Stat)
	default:
		return nil // a socket
	}
	t.linked(e, h)
	return t.header(h)
}

func setDevice(h *header, st *unix.Stat_t) {
	h.typeflag = typeChar
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		h.typeflag = typeBlock
	}
	h.major, h.minor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
}

// linked makes h a hard link where the file was written under another name. It
// keeps the attributes: who unpacks a link sets them again, and chown clears
// capabilities.
func (t *tarWriter) linked(e *tree.Entry, h *header) bool {
	if e.Stat.Nlink < 2 {
		return false
	}
	id := fileID{e.Stat.Dev, e.Stat.Ino}
	first, ok := t.links[id]
	if !ok {
		t.links[id] = e.Path
		return false
	}
	h.typeflag, h.link, h.size = typeLink, first, 0
	return true
}

func (t *tarWriter) regular(e *tree.Entry) error {
	fd, err := t.open(e)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := t.refresh(e, fd); err != nil {
		return err
	}
	attrs, err := rootfs.FileXattrs(fd)
	if err != nil {
		return fmt.Errorf("read extended attributes: %w", err)
	}
	h, err := t.describe(e, attrs)
	if err != nil {
		return err
	}
	linked := t.linked(e, h)
	if err := t.header(h); err != nil || linked || h.typeflag != typeRegular {
		return err
	}
	return t.content(fd, &e.Stat)
}

// open opens a file without marking it as read, which would write to the disk.
func (t *tarWriter) open(e *tree.Entry) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := e.Dir.Open(e.Name, flags|t.noatime, 0)
	if errors.Is(err, unix.EPERM) && t.noatime != 0 {
		t.noatime = 0 // not the owner
		return e.Dir.Open(e.Name, flags, 0)
	}
	return fd, err
}

// refresh takes of a changing file what it is now. What is no file any more has
// gone away.
func (t *tarWriter) refresh(e *tree.Entry, fd int) error {
	if !t.changing {
		return nil
	}
	if err := unix.Fstat(fd, &e.Stat); err != nil {
		return err
	}
	if e.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.ENOENT
	}
	return nil
}

// describe returns the entry's header; an override decides what it stands for.
func (t *tarWriter) describe(e *tree.Entry, attrs map[string]string) (*header, error) {
	st := e.Stat
	if text, ok := attrs[OverrideXattr]; ok && t.overrides {
		o, err := tree.ParseOverride(text)
		if err != nil {
			return nil, err
		}
		o.Apply(&st)
	}
	h := &header{
		name:     e.Path,
		typeflag: typeRegular,
		mode:     int64(st.Mode & 0o7777),
		uid:      int64(st.Uid),
		gid:      int64(st.Gid),
		mtime:    t.bound(st.Mtim),
		xattrs:   t.keptXattrs(attrs),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.size = st.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		setDevice(h, &st)
		h.xattrs = nil
	}
	return h, nil
}

// bound cuts a time to seconds, and to the epoch.
func (t *tarWriter) bound(ts unix.Timespec) int64 {
	sec, _ := ts.Unix()
	if !t.epoch.IsZero() {
		sec = min(sec, t.epoch.Unix())
	}
	return sec
}

// capability is the extended attribute with a program's capabilities.
const capability = "security.capability"

// keptXattrs are the extended attributes that are written: in a layer
// capabilities alone, as in those of BuildKit and docker, so that an image does
// not depend on who has built it; in a whole file system the users' own too.
func (t *tarWriter) keptXattrs(attrs map[string]string) map[string]string {
	var kept map[string]string
	for name, value := range attrs {
		if name != capability && (t.layer || !ownXattr(name)) {
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = value
	}
	return kept
}

// ownXattr tells an attribute that users give to files.
func ownXattr(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") && name != OverrideXattr
}

func (t *tarWriter) header(h *header) error {
	if cap(t.buf)-len(t.buf) < 4*blockSize {
		if err := t.flush(); err != nil {
			return err
		}
	}
	var err error
	t.buf, err = h.appendTo(t.buf)
	return err
}

func (t *tarWriter) flush() error {
	_, err := t.w.Write(t.buf)
	t.buf = t.buf[:0]
	return err
}

// content writes a file's bytes and the padding. Holes are not read.
func (t *tarWriter) content(fd int, st *unix.Stat_t) error {
	if st.Blocks*512 >= st.Size {
		if err := t.read(fd, 0, st.Size); err != nil {
			return err
		}
		return t.zeros(padding(st.Size))
	}
	for at := int64(0); at < st.Size; {
		data, end, err := nextData(fd, at, st.Size)
		if err != nil {
			return err
		}
		if err := t.zeros(data - at); err != nil {
			return err
		}
		if err := t.read(fd, data, end); err != nil {
			return err
		}
		at = end
	}
	return t.zeros(padding(st.Size))
}

// nextData returns where the next data of a sparse file begins and ends, both
// size where a hole is all that is left.
func nextData(fd int, at, size int64) (data, end int64, err error) {
	data, err = unix.Seek(fd, at, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return size, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	end, err = unix.Seek(fd, data, unix.SEEK_HOLE)
	return min(data, size), min(end, size), err
}

// read writes the file's bytes from at to end.
func (t *tarWriter) read(fd int, at, end int64) error {
	for at < end {
		room, err := t.room(end - at)
		if err != nil {
			return err
		}
		n, err := unix.Pread(fd, room, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 && t.changing {
			return t.zeros(end - at)
		}
		if n == 0 {
			return ErrChanged
		}
		t.buf = t.buf[:len(t.buf)+n]
		at += int64(n)
	}
	return nil
}

func (t *tarWriter) zeros(n int64) error {
	for n > 0 {
		room, err := t.room(n)
		if err != nil {
			return err
		}
		clear(room)
		t.buf = t.buf[:len(t.buf)+len(room)]
		n -= int64(len(room))
	}
	return nil
}

// room returns the free part of the buffer, up to n bytes, flushing when there
// is none. A long file comes by here often: it is where to stop.
func (t *tarWriter) room(n int64) ([]byte, error) {
	if len(t.buf) == cap(t.buf) {
		if err := t.flush(); err != nil {
			return nil, err
		}
		if err := t.ctx.Err(); err != nil {
			return nil, err
		}
	}
	free := t.buf[len(t.buf):cap(t.buf)]
	return free[:min(int64(len(free)), n)], nil
}
