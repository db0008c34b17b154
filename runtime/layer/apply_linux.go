package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// Errors of tars that are refused.
var (
	// ErrBadEntry says that an entry of a tar makes no sense, or would do harm.
	ErrBadEntry = errors.New("bad entry in layer")
	// ErrSparse says that sparse files stand for more than anybody needs.
	ErrSparse = errors.New("sparse files are too large")
)

// maxSparse bounds what the sparse files of one layer stand for: reading zeros
// costs time, though a few bytes of tar can ask for exabytes.
const maxSparse = 64 << 30

// ApplyOptions say how Apply unpacks.
type ApplyOptions struct {
	// Lower is the merged view of the layers below; nil when it is not known
	// (yet). See ApplyResult.NeedsLower.
	Lower *rootfs.Root
	tree.Format
}

// ApplyResult tells what Apply did.
type ApplyResult struct {
	// NeedsLower is set when the layer cannot be unpacked without the layers
	// below. The directory is then unfinished: empty it, and apply again with
	// Lower.
	NeedsLower bool
	// Size is the sum of the file sizes.
	Size int64
	// Entries counts the tar entries.
	Entries int64
	// Skipped names attributes that privileges or the file system did not
	// allow, as "PATH: ATTRIBUTE: REASON"; the first 100.
	Skipped []string
}

// errNeedsLower ends an Apply that cannot go on without Lower.
var errNeedsLower = errors.New("the layers below are needed")

// Apply unpacks a layer tar (compressed or not) into the empty layer directory
// dir, and reads r to its end. On an error the directory is unfinished.
func Apply(ctx context.Context, r io.Reader, dir string, o ApplyOptions) (ApplyResult, error) {
	plain, _, err := Decompress(r)
	if err != nil {
		return ApplyResult{}, err
	}
	defer plain.Close()
	ahead := newReadAhead(plain)
	defer ahead.Close()
	return apply(ctx, ahead, dir, o)
}

// apply unpacks an uncompressed tar.
func apply(ctx context.Context, r io.Reader, dir string, o ApplyOptions) (result ApplyResult, err error) {
	root, err := rootfs.OpenDir(dir)
	if err != nil {
		return ApplyResult{}, err
	}
	defer root.Close()
	a := applier{
		ctx:   ctx,
		o:     o,
		tar:   tar.NewReader(r),
		names: newNames(root, o.Lower),
		pool:  startWriters(o.Format),
	}
	defer a.names.close()
	err = a.all()
	if stopped := a.pool.stop(); err == nil {
		err = stopped
	}
	if err == nil {
		err = a.finish()
	}
	if err == nil { // what follows the archive belongs to the stream
		_, err = io.Copy(io.Discard, r)
	}
	if errors.Is(err, errNeedsLower) {
		a.result.NeedsLower = true
		return a.result, nil
	}
	return a.result, err
}

// applier unpacks one tar.
type applier struct {
	ctx    context.Context
	o      ApplyOptions
	tar    *tar.Reader
	names  *names
	pool   *writers
	sparse int64
	result ApplyResult
}

func (a *applier) all() error {
	for {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		if err := a.pool.failed(); err != nil {
			return err
		}
		hdr, err := a.tar.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are our own affair
			return fmt.Errorf("read layer: %w", err)
		}
		if err := a.entry(hdr); err != nil {
			if errors.Is(err, errNeedsLower) {
				return err
			}
			return fmt.Errorf("unpack %q: %w", hdr.Name, err)
		}
		a.result.Entries++
	}
}

// entry unpacks one entry. Its name is cleaned as containerd does: it is
// relative to the root, and '..' stops there.
func (a *applier) entry(hdr *tar.Header) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := path.Clean("/" + hdr.Name)[1:]
	if name == "" {
		return nil // the root directory: what it looks like is not a layer's to say
	}
	dir, base := path.Split(name)
	mark, err := markOf(dir, base)
	if err != nil || mark == ignoredMark {
		return err
	}
	if a.names.miss(dir) {
		a.pool.wait() // what is looked up on disk must be there
	}
	parent, err := a.names.parent(dir)
	if err != nil {
		return err
	}
	switch mark {
	case opaqueMark:
		return a.names.makeOpaque(parent)
	case whiteoutMark:
		return a.whiteout(parent, strings.TrimPrefix(base, whiteoutPrefix))
	}
	return a.node(hdr, parent, base)
}

type mark int

const (
	noMark mark = iota
	whiteoutMark
	opaqueMark
	ignoredMark
)

// markOf tells what a name means in a layer tar. aufs' own files, which begin
// with .wh..wh., are ignored.
func markOf(dir, base string) (mark, error) {
	if strings.Contains("/"+dir, "/"+metaPrefix) {
		return ignoredMark, nil
	}
	if strings.Contains("/"+dir, "/"+whiteoutPrefix) {
		return noMark, fmt.Errorf("%w: a file in a whiteout", ErrBadEntry)
	}
	switch {
	case base == opaqueName:
		return opaqueMark, nil
	case strings.HasPrefix(base, metaPrefix):
		return ignoredMark, nil
	case !strings.HasPrefix(base, whiteoutPrefix):
		return noMark, nil
	}
	switch base[len(whiteoutPrefix):] {
	case "", ".", "..":
		return noMark, fmt.Errorf("%w: a whiteout of no file", ErrBadEntry)
	}
	return whiteoutMark, nil
}

// whiteout hides a name of the layers below. It says nothing about the name in
// this layer itself (image-spec, layer.md), wherever that comes in the tar; a
// directory of this layer then is opaque.
func (a *applier) whiteout(parent *dirNode, name string) error {
	full := join(parent.path, name)
	if d := a.names.dirs[full]; d != nil {
		return a.names.makeOpaque(d)
	}
	if a.names.maybe(full) {
		a.pool.wait()
		if there, err := a.names.exists(parent, name); there || err != nil {
			return err
		}
	}
	d, err := a.names.open(parent)
	if err != nil {
		return err
	}
	defer a.names.release(parent)
	if err := tree.Whiteout(d, name); err != nil {
		return err
	}
	a.names.whiteouts[full] = parent
	a.names.note(full)
	return nil
}

// node makes a file or directory.
func (a *applier) node(hdr *tar.Header, parent *dirNode, base string) error {
	attrs, err := attributesOf(hdr)
	if err != nil {
		return err
	}
	switch {
	case hdr.Typeflag == tar.TypeDir:
		return a.directory(parent, base, attrs)
	case hdr.Typeflag == tar.TypeChar && hdr.Devmajor == 0 && hdr.Devminor == 0:
		return a.whiteout(parent, base) // the kernel's own, taken from an upper directory
	}
	if err := a.clear(parent, base); err != nil {
		return err
	}
	a.names.note(join(parent.path, base))
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return a.regular(hdr, parent, base, attrs)
	case tar.TypeLink:
		return a.link(hdr, parent, base, attrs)
	case tar.TypeSymlink:
		return a.simple(parent, base, job{attrs: attrs, link: hdr.Linkname})
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		return a.special(hdr, parent, base, attrs)
	default:
		return fmt.Errorf("%w: it has the type %q, which no layer can hold", ErrBadEntry, hdr.Typeflag)
	}
}

// clear removes what stands where a file is to be made: the last entry of a
// name wins.
func (a *applier) clear(parent *dirNode, base string) error {
	full := join(parent.path, base)
	if a.names.dirs[full] == nil && !a.names.maybe(full) {
		return nil
	}
	a.pool.wait()
	d, err := a.names.open(parent)
	if err != nil {
		return err
	}
	defer a.names.release(parent)
	a.names.forget(full)
	return d.RemoveAll(base)
}

// directory makes a directory, or gives new attributes to the one that is there.
func (a *applier) directory(parent *dirNode, base string, attrs attributes) error {
	full := join(parent.path, base)
	if d := a.names.dirs[full]; d != nil {
		d.attrs = attrs
		return nil
	}
	hides := false
	if a.names.maybe(full) {
		_, hides = a.names.whiteouts[full]
		if err := a.clear(parent, base); err != nil {
			return err
		}
	}
	d, err := a.names.mkdir(parent, base)
	if err != nil {
		return err
	}
	d.attrs = attrs
	if hides {
		return a.names.makeOpaque(d)
	}
	return nil
}

func (a *applier) special(hdr *tar.Header, parent *dirNode, base string, attrs attributes) error {
	dev, err := deviceOf(hdr)
	if err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeFifo:
		attrs.mode |= unix.S_IFIFO
		dev = 0
	case tar.TypeChar:
		attrs.mode |= unix.S_IFCHR
	default:
		attrs.mode |= unix.S_IFBLK
	}
	return a.simple(parent, base, job{attrs: attrs, dev: dev})
}

func deviceOf(hdr *tar.Header) (uint64, error) {
	const maxMajor, maxMinor = 1<<12 - 1, 1<<20 - 1
	if hdr.Devmajor < 0 || hdr.Devmajor > maxMajor || hdr.Devminor < 0 || hdr.Devminor > maxMinor {
		return 0, fmt.Errorf("%w: there is no device %d:%d", ErrBadEntry, hdr.Devmajor, hdr.Devminor)
	}
	return unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)), nil
}

// simple hands a file without content to a writer.
func (a *applier) simple(parent *dirNode, base string, j job) error {
	d, err := a.names.open(parent)
	if err != nil {
		return err
	}
	j.dir, j.node, j.names, j.name = d, parent, a.names, base
	return a.pool.put(a.ctx, j)
}

func (a *applier) regular(hdr *tar.Header, parent *dirNode, base string, attrs attributes) error {
	if err := a.admit(hdr); err != nil {
		return err
	}
	a.result.Size += hdr.Size
	attrs.mode |= unix.S_IFREG
	if hdr.Size > smallFile {
		return a.large(hdr, parent, base, attrs)
	}
	buf := a.pool.buffer()
	if _, err := io.ReadFull(a.tar, (*buf)[:hdr.Size]); err != nil {
		return err
	}
	return a.simple(parent, base, job{attrs: attrs, buf: buf, data: (*buf)[:hdr.Size], size: hdr.Size})
}

// admit counts sparse files, which stand for more than the tar holds.
func (a *applier) admit(hdr *tar.Header) error {
	if hdr.Size < 0 {
		return fmt.Errorf("%w: its size is %d", ErrBadEntry, hdr.Size)
	}
	sparse := hdr.Typeflag == tar.TypeGNUSparse
	for key := range hdr.PAXRecords {
		sparse = sparse || strings.HasPrefix(key, "GNU.sparse.")
	}
	if !sparse {
		return nil
	}
	if hdr.Size > maxSparse-a.sparse {
		return fmt.Errorf("%w: more than %d GiB in one layer", ErrSparse, maxSparse>>30)
	}
	a.sparse += hdr.Size
	return nil
}

// large feeds a writer piece by piece.
func (a *applier) large(hdr *tar.Header, parent *dirNode, base string, attrs attributes) error {
	pieces := make(chan *filePiece, 4)
	defer close(pieces)
	if err := a.simple(parent, base, job{attrs: attrs, pieces: pieces, size: hdr.Size}); err != nil {
		return err
	}
	for left := hdr.Size; left > 0; {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		buf := a.pool.buffer()
		data := (*buf)[:min(left, smallFile)]
		if _, err := io.ReadFull(a.tar, data); err != nil {
			return err
		}
		pieces <- &filePiece{buf, data} // a writer takes pieces even after a failure
		left -= int64(len(data))
	}
	return nil
}

// link makes a hard link. Its target is named from the root; the parents of
// that name are resolved as an entry's are, the target itself is not followed.
func (a *applier) link(hdr *tar.Header, parent *dirNode, base string, attrs attributes) error {
	target := path.Clean("/" + hdr.Linkname)[1:]
	if target == "" {
		return fmt.Errorf("%w: a hard link to the root directory", ErrBadEntry)
	}
	a.pool.wait()
	if err := a.pool.failed(); err != nil {
		return err
	}
	dir, old := path.Split(target)
	from, err := a.names.target(a.ctx, dir, old)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", hdr.Linkname, err)
	}
	src, err := a.names.open(from)
	if err != nil {
		return err
	}
	defer a.names.release(from)
	dst, err := a.names.open(parent)
	if err != nil {
		return err
	}
	defer a.names.release(parent)
	return dst.Link(src, old, base)
}

// finish sets the attributes of directories, deepest first, which their
// contents no longer change.
func (a *applier) finish() error {
	if err := a.names.settleMarks(); err != nil {
		return err
	}
	s := setter{format: a.o.Format, skipped: a.pool.skipped}
	for _, d := range a.names.deepestFirst() {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		if err := a.names.settle(d, &s); err != nil {
			return err
		}
	}
	a.result.Skipped = s.skipped
	return nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// idOf checks a user or group id: the kernel takes the largest for 'no change'.
func idOf(kind string, id int) (int, error) {
	if id < 0 || id >= math.MaxUint32 {
		return 0, fmt.Errorf("%w: %s %d is out of range", ErrBadEntry, kind, id)
	}
	return id, nil
}
