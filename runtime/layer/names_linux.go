package layer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// maxLinks is how many symlinks the name of an entry may go through, as in
// containerd; maxNesting how many directories.
const (
	maxLinks   = 255
	maxNesting = 2048
)

// dirNode is a directory of the layer that is being unpacked. All directories
// are known, and nobody else changes the layer, so that a path which leads
// through known directories only needs no look at the disk, and meets no
// symlink.
type dirNode struct {
	path   string // canonical; "" is the root
	parent *dirNode
	attrs  attributes
	// opaque hides what the layers below have in it.
	opaque bool
	// below is set when the layers below have a directory here, too, that
	// this one is merged with. It is known only with a Lower.
	below bool

	handle *rootfs.Dir // nil when it is closed
	users  int
}

// names knows what the layer has so far, and resolves the names of entries. All
// but open and release is for one goroutine.
type names struct {
	root  *rootfs.Root
	lower *rootfs.Root // may be nil
	dirs  map[string]*dirNode
	// seen has the hashes of all other names: what is not in it is not there.
	seen map[uint64]struct{}
	seed maphash.Seed
	// whiteouts are those made, with the directory that each is in.
	whiteouts map[string]*dirNode

	mu   sync.Mutex
	idle []*dirNode // with an open handle nobody uses, the longest idle first
}

// maxIdle bounds the handles that are kept open for later.
const maxIdle = 64

func newNames(root, lower *rootfs.Root) *names {
	top := &dirNode{below: lower != nil}
	return &names{
		root:      root,
		lower:     lower,
		dirs:      map[string]*dirNode{"": top},
		seen:      map[uint64]struct{}{},
		seed:      maphash.MakeSeed(),
		whiteouts: map[string]*dirNode{},
	}
}

// close closes all handles. No writer runs any more.
func (n *names) close() {
	for _, d := range n.dirs {
		if d.handle != nil {
			d.handle.Close()
			d.handle = nil
		}
	}
}

// open returns the handle of a directory, until release.
func (n *names) open(d *dirNode) (*rootfs.Dir, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d.handle == nil {
		// The path is canonical, and all of it was made by us.
		h, err := n.root.OpenDir(d.path)
		if err != nil {
			return nil, err
		}
		d.handle = h
	} else if d.users == 0 {
		n.idle = slices.DeleteFunc(n.idle, func(other *dirNode) bool { return other == d })
	}
	d.users++
	return d.handle, nil
}

// release ends the use of a handle, which stays open for a while.
func (n *names) release(d *dirNode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d.users--; d.users > 0 {
		return
	}
	n.idle = append(n.idle, d)
	if len(n.idle) > maxIdle {
		n.drop(n.idle[0])
	}
}

// drop closes an idle handle. The lock is held.
func (n *names) drop(d *dirNode) {
	n.idle = slices.DeleteFunc(n.idle, func(other *dirNode) bool { return other == d })
	if d.handle != nil && d.users == 0 {
		d.handle.Close()
		d.handle = nil
	}
}

func (n *names) hash(full string) uint64 { return maphash.String(n.seed, full) }

// note says that full was made, and is not a directory.
func (n *names) note(full string) { n.seen[n.hash(full)] = struct{}{} }

// maybe reports whether full may be there; if not, it is not (unless it is a
// directory).
func (n *names) maybe(full string) bool {
	_, ok := n.seen[n.hash(full)]
	return ok
}

// exists looks on the disk.
func (n *names) exists(parent *dirNode, name string) (bool, error) {
	_, there, err := n.lstat(parent, name)
	return there, err
}

func (n *names) lstat(parent *dirNode, name string) (unix.Stat_t, bool, error) {
	d, err := n.open(parent)
	if err != nil {
		return unix.Stat_t{}, false, err
	}
	defer n.release(parent)
	st, err := d.Lstat(name)
	if errors.Is(err, unix.ENOENT) {
		return st, false, nil
	}
	return st, err == nil, err
}

// forget drops all that is known about full and below. No writer runs.
func (n *names) forget(full string) {
	if d := n.dirs[full]; d != nil {
		for p, below := range n.dirs {
			if p == full || strings.HasPrefix(p, full+"/") {
				n.mu.Lock()
				n.drop(below)
				n.mu.Unlock()
				delete(n.dirs, p)
			}
		}
	}
	for p := range n.whiteouts {
		if p == full || strings.HasPrefix(p, full+"/") {
			delete(n.whiteouts, p)
		}
	}
}

// mkdir makes a directory that is not there.
func (n *names) mkdir(parent *dirNode, name string) (*dirNode, error) {
	d := &dirNode{path: join(parent.path, name), parent: parent, attrs: impliedAttributes()}
	if strings.Count(d.path, "/") >= maxNesting {
		return nil, fmt.Errorf("%w: %w", ErrBadEntry, tree.ErrTooDeep)
	}
	if strings.HasPrefix(name, whiteoutPrefix) { // a symlink led here
		return nil, fmt.Errorf("%w: a directory called %s", ErrBadEntry, name)
	}
	if n.lower != nil && n.sees(parent.path) {
		st, err := n.lower.Lstat(d.path)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
		d.below = err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	in, err := n.open(parent)
	if err != nil {
		return nil, err
	}
	defer n.release(parent)
	if err := in.Mkdir(name, 0o700); err != nil {
		return nil, err
	}
	n.dirs[d.path] = d
	return d, nil
}

// miss reports whether parent(dir) has to look at the disk.
func (n *names) miss(dir string) bool {
	return n.dirs[strings.TrimSuffix(dir, "/")] == nil
}

// parent returns the directory dir, resolved, in the layer; it is made there
// where only the layers below have it, or nobody.
func (n *names) parent(dir string) (*dirNode, error) {
	if d := n.dirs[strings.TrimSuffix(dir, "/")]; d != nil {
		return d, nil
	}
	canonical, err := n.resolve(dir)
	if err != nil {
		return nil, err
	}
	return n.materialise(canonical)
}

// resolve returns the canonical path of dir in the view of this layer over those
// below: symlinks are followed inside the root, as containerd's fs.RootPath
// does, and what is missing is taken as it is written.
func (n *names) resolve(dir string) (string, error) {
	at, links := "", 0
	for rest := dir; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir("/" + at)[1:]
			continue
		}
		target, err := n.linkAt(at, name)
		if err != nil {
			return "", err
		}
		if target == "" {
			at = join(at, name)
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%w: %w", ErrBadEntry, unix.ELOOP)
		}
		if target[0] == '/' {
			at = ""
		}
		rest = target + "/" + rest
	}
	return at, nil
}

// linkAt returns where the name in the directory at leads, if it is a symlink.
func (n *names) linkAt(at, name string) (string, error) {
	full := join(at, name)
	if n.dirs[full] != nil {
		return "", nil
	}
	parent := n.dirs[at]
	if parent != nil && n.maybe(full) {
		st, there, err := n.lstat(parent, name)
		if err != nil {
			return "", err
		}
		if there && tree.IsWhiteout(&st) {
			return "", nil
		}
		if there {
			return n.readlink(parent, name, &st)
		}
	}
	return n.linkBelow(at, name)
}

func (n *names) readlink(parent *dirNode, name string, st *unix.Stat_t) (string, error) {
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", fmt.Errorf("%w: %s is not a directory", ErrBadEntry, join(parent.path, name))
	}
	d, err := n.open(parent)
	if err != nil {
		return "", err
	}
	defer n.release(parent)
	return d.Readlink(name)
}

// linkBelow is linkAt for what this layer does not have.
func (n *names) linkBelow(at, name string) (string, error) {
	if n.lower == nil {
		return "", errNeedsLower
	}
	if !n.sees(at) {
		return "", nil
	}
	full := join(at, name)
	st, err := n.lower.Lstat(full)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return "", nil
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return n.lower.Readlink(full)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return "", fmt.Errorf("%w: %s is not a directory in the layers below", ErrBadEntry, full)
	}
	return "", nil
}

// sees reports whether what the layers below have in the directory at, which
// need not be in this layer, shows through.
func (n *names) sees(at string) bool {
	known := false
	for p := at; ; p = path.Dir("/" + p)[1:] {
		d := n.dirs[p]
		switch {
		case d == nil && n.whiteouts[p] != nil, d != nil && d.opaque, d != nil && !known && !d.below:
			return false
		case p == "":
			return true
		}
		known = known || d != nil
	}
}

// materialise returns the directory at a canonical path. What is missing in the
// layer is made with the attributes that it has in the layers below, since it
// hides those from now on; what is missing there, too, as 0755 of root.
func (n *names) materialise(canonical string) (*dirNode, error) {
	if d := n.dirs[canonical]; d != nil {
		return d, nil
	}
	parent, err := n.materialise(path.Dir("/" + canonical)[1:])
	if err != nil {
		return nil, err
	}
	name := path.Base(canonical)
	hidden := n.whiteouts[canonical] != nil
	if hidden {
		if err := n.unmark(canonical); err != nil {
			return nil, err
		}
	}
	d, err := n.mkdir(parent, name)
	if err != nil {
		return nil, err
	}
	if hidden {
		return d, n.makeOpaque(d)
	}
	if d.below {
		d.attrs, err = attributesBelow(n.lower, canonical)
	}
	return d, err
}

// unmark removes a whiteout.
func (n *names) unmark(full string) error {
	parent := n.whiteouts[full]
	d, err := n.open(parent)
	if err != nil {
		return err
	}
	defer n.release(parent)
	delete(n.whiteouts, full)
	return d.Remove(path.Base(full))
}

// makeOpaque hides what the layers below have in d. overlayfs does not know an
// opaque root: there each name is hidden, at the end.
func (n *names) makeOpaque(d *dirNode) error {
	if d.path == "" && n.lower == nil {
		return errNeedsLower
	}
	d.opaque = true
	return nil
}

// target returns the directory that holds a hard link's target, which is copied
// into this layer when only the layers below have it.
func (n *names) target(ctx context.Context, dir, name string) (*dirNode, error) {
	canonical, err := n.resolve(dir)
	if err != nil {
		return nil, err
	}
	full := join(canonical, name)
	switch {
	case n.dirs[full] != nil:
		return nil, fmt.Errorf("%w: it is a directory", ErrBadEntry)
	case n.whiteouts[full] != nil:
		return nil, unix.ENOENT
	}
	if d := n.dirs[canonical]; d != nil && n.maybe(full) {
		if there, err := n.exists(d, name); there || err != nil {
			return d, err
		}
	}
	if n.lower == nil {
		return nil, errNeedsLower
	}
	if !n.sees(canonical) {
		return nil, unix.ENOENT
	}
	st, err := n.lower.Lstat(full)
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil, fmt.Errorf("%w: it is a directory", ErrBadEntry)
	}
	d, err := n.materialise(canonical)
	if err != nil {
		return nil, err
	}
	n.note(full)
	return d, n.copyUp(ctx, d, name)
}

// copyUp copies one file of the layers below into this layer.
func (n *names) copyUp(ctx context.Context, parent *dirNode, name string) error {
	from, err := n.lower.OpenDir(parent.path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := n.open(parent)
	if err != nil {
		return err
	}
	defer n.release(parent)
	return tree.CopyFile(ctx, to, from, name)
}

// settleMarks makes the root's opacity, and removes whiteouts where nothing is
// left to hide: overlayfs would list them in a directory that it does not merge.
func (n *names) settleMarks() error {
	if top := n.dirs[""]; top.opaque {
		if err := n.hideRoot(top); err != nil {
			return err
		}
	}
	for full, parent := range n.whiteouts {
		for d := parent; d.path != ""; d = d.parent {
			if !d.opaque {
				continue
			}
			if err := n.unmark(full); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// hideRoot hides all that the layers below have.
func (n *names) hideRoot(top *dirNode) error {
	below, err := n.lower.OpenDir("/")
	if err != nil {
		return err
	}
	defer below.Close()
	entries, err := below.ReadDir()
	if err != nil {
		return err
	}
	d, err := n.open(top)
	if err != nil {
		return err
	}
	defer n.release(top)
	for _, e := range entries {
		if own := n.dirs[e.Name]; own != nil {
			own.opaque = true
			continue
		}
		if err := tree.Whiteout(d, e.Name); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// deepestFirst lists the layer's directories but the root, each after what it
// contains.
func (n *names) deepestFirst() []*dirNode {
	all := make([]*dirNode, 0, len(n.dirs))
	for p, d := range n.dirs {
		if p != "" {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *dirNode) int { return strings.Compare(b.path, a.path) })
	return all
}

// settle gives a directory its attributes, and closes it.
func (n *names) settle(d *dirNode, s *setter) error {
	h, err := n.open(d)
	if err != nil {
		return err
	}
	defer n.release(d)
	if d.opaque {
		if err := h.Setxattr("", s.format.OpaqueXattr(), tree.Opaque); err != nil {
			return err
		}
	}
	d.attrs.mode |= unix.S_IFDIR
	return s.set(file{fd: h.FD(), path: d.path}, d.attrs)
}
