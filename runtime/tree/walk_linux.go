package tree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// maxDepth bounds nesting: no path that the kernel takes names more.
const maxDepth = 2048

// ErrTooDeep says that directories are nested deeper than a path can name.
var ErrTooDeep = errors.New("directories are nested too deeply")

// Entry is one file of a walk. It is valid during the call that it is given to.
type Entry struct {
	// Path is relative to the root of the walk, without a leading slash; ""
	// is the root itself.
	Path string
	// Dir holds the entry under Name; nil for the root.
	Dir  *rootfs.Dir
	Name string
	// Self is the handle of an entry that is a directory.
	Self *rootfs.Dir
	Stat unix.Stat_t
	// Layer is the index of the layer that the entry comes from.
	Layer int
	// Opaque is set for a directory of a layer that carries the mark.
	Opaque bool
}

// Xattrs returns the entry's extended attributes.
func (e *Entry) Xattrs() (map[string]string, error) {
	if e.Self != nil {
		return e.Self.Xattrs("")
	}
	return e.Dir.Xattrs(e.Name)
}

// IsDir reports whether the entry is a directory.
func (e *Entry) IsDir() bool { return e.Self != nil }

// SkipContents is what Enter returns for a directory whose contents are not to
// be visited.
var SkipContents = errors.New("skip the contents of this directory") //nolint:revive,staticcheck // it is named as fs.SkipDir

// Visitor receives the entries of a walk.
type Visitor interface {
	// Enter is called for each entry, a directory before its contents.
	Enter(e *Entry) error
	// Leave is called for a directory after its contents.
	Leave(e *Entry) error
}

// WalkRequest says what Walk visits.
type WalkRequest struct {
	// Layers are layer directories, bottom first.
	Layers []string
	Format
	// Raw visits the files of the one layer as they are, whiteouts too,
	// instead of a merged view.
	Raw bool
	// Changing leaves out what goes away during the walk, where it would be an
	// error otherwise.
	Changing bool
}

// Walk visits the root and all below, the names of each directory in byte
// order. The same layers are always visited in the same order.
func Walk(ctx context.Context, req WalkRequest, v Visitor) error {
	if req.Raw && len(req.Layers) != 1 {
		return fmt.Errorf("walk %d layers as they are: %w", len(req.Layers), unix.EINVAL)
	}
	top, err := openLevel(req.Layers)
	defer top.close()
	if err != nil {
		return err
	}
	w := walker{ctx: ctx, v: v, format: req.Format, raw: req.Raw, changing: req.Changing}
	if len(top) == 0 {
		return nil
	}
	e := Entry{Self: top[0].dir, Layer: top[0].layer}
	if e.Stat, err = e.Self.Stat(); err != nil {
		return err
	}
	return w.directory(&e, top, 0)
}

// WalkRoot visits the plain tree root as Walk does, its whiteouts and marks as
// what they are.
func WalkRoot(ctx context.Context, root *rootfs.Root, v Visitor) error {
	return walkRoot(ctx, root, v, false)
}

// WalkLiveRoot leaves out what goes away during the walk.
func WalkLiveRoot(ctx context.Context, root *rootfs.Root, v Visitor) error {
	return walkRoot(ctx, root, v, true)
}

func walkRoot(ctx context.Context, root *rootfs.Root, v Visitor, changing bool) error {
	d, err := root.OpenDir("/")
	if err != nil {
		return err
	}
	defer d.Close()
	w := walker{ctx: ctx, v: v, raw: true, changing: changing}
	e := Entry{Self: d}
	if e.Stat, err = d.Stat(); err != nil {
		return err
	}
	return w.directory(&e, level{{dir: d}}, 0)
}

type walker struct {
	ctx      context.Context
	v        Visitor
	format   Format
	raw      bool
	changing bool
}

// directory visits e, whose contents are those of the level.
func (w *walker) directory(e *Entry, l level, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("walk %s: %w", e.Self.Path(), ErrTooDeep)
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := w.v.Enter(e); errors.Is(err, SkipContents) {
		return w.v.Leave(e)
	} else if err != nil {
		return err
	}
	names, err := l.names()
	if err != nil && !w.gone(err) {
		return err
	}
	for _, n := range names {
		if err := w.member(e.Path, l, n, depth); err != nil && !w.gone(err) {
			return err
		}
	}
	return w.v.Leave(e)
}

// gone tells an error that only says that something is not there any more, or
// something else is in its place.
func (w *walker) gone(err error) bool {
	return w.changing && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP))
}

// member visits the name n of the directory at path.
func (w *walker) member(path string, l level, n levelName, depth int) error {
	in := l[n.index]
	e := Entry{Path: join(path, n.name), Dir: in.dir, Name: n.name, Layer: in.layer}
	var err error
	if e.Stat, err = in.dir.Lstat(n.name); err != nil {
		return err
	}
	if !w.raw && IsWhiteout(&e.Stat) {
		return nil
	}
	if e.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return w.v.Enter(&e)
	}
	below, err := l.descend(n, w.format)
	defer below.close()
	if err != nil {
		return err
	}
	if len(below) == 0 {
		return fmt.Errorf("walk %s: it changed meanwhile: %w", join(in.dir.Path(), n.name), unix.ENOENT)
	}
	e.Self, e.Opaque = below[0].dir, below[0].opaque
	return w.directory(&e, below, depth+1)
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// level is a directory of the merged view: the directories of the layers that
// it consists of, top first.
type level []member

type member struct {
	layer  int
	dir    *rootfs.Dir
	opaque bool
}

// levelName is a name of a level, and the first member that has it.
type levelName struct {
	name  string
	index int
}

func openLevel(layers []string) (level, error) {
	var l level
	for i, p := range slices.Backward(layers) {
		root, err := rootfs.OpenDir(p)
		if err != nil {
			return l, err
		}
		d, err := root.OpenDir("/")
		root.Close()
		if err != nil {
			return l, err
		}
		l = append(l, member{layer: i, dir: d})
	}
	return l, nil
}

func (l level) close() {
	for _, m := range l {
		m.dir.Close()
	}
}

// names lists the level, sorted.
func (l level) names() ([]levelName, error) {
	var names []levelName
	var seen map[string]bool
	if len(l) > 1 {
		seen = map[string]bool{}
	}
	for i, m := range l {
		entries, err := m.dir.ReadDir()
		if err != nil {
			return nil, err
		}
		names = slices.Grow(names, len(entries))
		for _, e := range entries {
			if seen[e.Name] {
				continue
			}
			if seen != nil {
				seen[e.Name] = true
			}
			names = append(names, levelName{e.Name, i})
		}
	}
	if len(l) > 1 {
		slices.SortFunc(names, func(a, b levelName) int { return strings.Compare(a.name, b.name) })
	}
	return names, nil
}

// descend opens the directory n, of this level's first member that has it and
// of those below that it is merged with.
func (l level) descend(n levelName, f Format) (level, error) {
	var below level
	for _, m := range l[n.index:] {
		st, err := m.dir.Lstat(n.name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return below, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return below, nil
		}
		d, err := m.dir.OpenDir(n.name)
		if err != nil {
			return below, err
		}
		opaque, err := isOpaque(d, f)
		below = append(below, member{m.layer, d, opaque})
		if opaque || err != nil {
			return below, err
		}
	}
	return below, nil
}

// find returns the first member that has the name; ok is false when the view
// does not have it.
func (l level) find(name string) (n levelName, st unix.Stat_t, ok bool, err error) {
	for i, m := range l {
		st, err := m.dir.Lstat(name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		return levelName{name, i}, st, err == nil && !IsWhiteout(&st), err
	}
	return levelName{}, st, false, nil
}

// isOpaque reports whether an open directory of a layer is opaque.
func isOpaque(d *rootfs.Dir, f Format) (bool, error) {
	var buf [8]byte
	n, err := unix.Fgetxattr(d.FD(), f.OpaqueXattr(), buf[:])
	switch {
	case err == nil:
		return string(buf[:n]) == Opaque, nil
	case err == unix.ENODATA || err == unix.EOPNOTSUPP || err == unix.ERANGE:
		return false, nil
	default:
		return false, fmt.Errorf("read opaque mark of %s: %w", d.Path(), err)
	}
}
