package localsource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
)

// Tree is a manifest over its open directory: a source of copies in which only
// the files of the manifest exist.
type Tree struct {
	m    *Manifest
	root *rootfs.Root
	top  *rootfs.Dir
	// end is, for each entry, the index behind the last one below it.
	end []int
	// first has the index of each file that others are hard links to.
	first map[string]int
}

// Tree opens the manifest as a source of copies, which read the user's
// directory itself and verify what they read.
func (m *Manifest) Tree() (*Tree, error) {
	root, err := rootfs.OpenDir(m.dir)
	if err != nil {
		return nil, explainDir(m.dir, err)
	}
	top, err := root.Dir()
	if err != nil {
		return nil, errors.Join(explainDir(m.dir, err), root.Close())
	}
	t := &Tree{m: m, root: root, top: top}
	t.index()
	return t, nil
}

// Close closes the user's directory.
func (t *Tree) Close() error { return errors.Join(t.top.Close(), t.root.Close()) }

// index finds where directories end, and which files are linked to.
func (t *Tree) index() {
	t.end = make([]int, len(t.m.entries))
	t.first = map[string]int{}
	var open []int
	for i := range t.m.entries {
		e := &t.m.entries[i]
		for len(open) > 0 && !below(t.m.entries[open[len(open)-1]].Path, e.Path) {
			t.end[open[len(open)-1]] = i
			open = open[:len(open)-1]
		}
		if e.IsRegular() && e.Link != "" {
			t.first[e.Link] = -1
		}
		open = append(open, i)
	}
	for _, i := range open {
		t.end[i] = len(t.m.entries)
	}
	if len(t.first) == 0 {
		return
	}
	for i := range t.m.entries {
		if _, ok := t.first[t.m.entries[i].Path]; ok {
			t.first[t.m.entries[i].Path] = i
		}
	}
}

func below(dir, p string) bool {
	return len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

// Root implements fileop.Tree.
func (t *Tree) Root() (fileop.Dir, error) {
	return &treeDir{t: t, index: -1, lo: 0, hi: len(t.m.entries)}, nil
}

// treeDir is a directory of the tree. Its real directory is opened when the
// first file is.
type treeDir struct {
	t      *Tree
	index  int // of its entry; -1 is the top
	lo, hi int // the entries below it

	listing  sync.Once
	children []int

	opening sync.Once
	fd      int
	opened  bool
	err     error
}

func (d *treeDir) Self() (fileop.Node, error) {
	if d.index < 0 {
		// Under BuildKit the context comes into a new directory, whose time a
		// copy of all of it gets; layers cut it at the build's epoch.
		now := unix.NsecToTimespec(time.Now().UnixNano())
		return fileop.Node{Mode: unix.S_IFDIR | 0o755, Atime: now, Mtime: now}, nil
	}
	return d.t.node(d.index), nil
}

func (d *treeDir) list() []int {
	d.listing.Do(func() {
		for i := d.lo; i < d.hi; i = d.t.end[i] {
			d.children = append(d.children, i)
		}
	})
	return d.children
}

func (d *treeDir) Names() ([]string, error) {
	names := make([]string, len(d.list()))
	for i, child := range d.list() {
		names[i] = path.Base(d.t.m.entries[child].Path)
	}
	return names, nil
}

func (d *treeDir) find(name string) (int, error) {
	i, ok := slices.BinarySearchFunc(d.list(), name, func(child int, name string) int {
		return strings.Compare(path.Base(d.t.m.entries[child].Path), name)
	})
	if !ok {
		return 0, &os.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return d.children[i], nil
}

func (d *treeDir) Lookup(name string) (fileop.Node, error) {
	i, err := d.find(name)
	if err != nil {
		return fileop.Node{}, err
	}
	return d.t.node(i), nil
}

// node describes an entry. Hard links have the inode number of the first.
func (t *Tree) node(i int) fileop.Node {
	e := &t.m.entries[i]
	ts := unix.NsecToTimespec(e.Mtime)
	n := fileop.Node{
		Name: path.Base(e.Path), Mode: e.Mode, Size: e.Size, Rdev: e.Rdev,
		Atime: ts, Mtime: ts, Ino: uint64(i), Nlink: 1,
	}
	if !e.IsRegular() {
		n.Link = e.Link
		return n
	}
	n.Sum = &e.Sum
	if e.Link != "" {
		n.Ino, n.Nlink = uint64(t.first[e.Link]), 2
	} else if _, ok := t.first[e.Path]; ok {
		n.Nlink = 2
	}
	return n
}

func (d *treeDir) Sub(name string) (fileop.Dir, error) {
	i, err := d.find(name)
	if err != nil {
		return nil, err
	}
	if !d.t.m.entries[i].IsDir() {
		return nil, &os.PathError{Op: "open", Path: d.t.m.entries[i].Path, Err: unix.ENOTDIR}
	}
	return &treeDir{t: d.t, index: i, lo: i + 1, hi: d.t.end[i]}, nil
}

// Open opens the user's file. A symlink that stands on the way now was not
// there when the directory was scanned.
func (d *treeDir) Open(n *fileop.Node) (int, error) {
	d.opening.Do(d.open)
	if d.err != nil {
		return -1, d.err
	}
	for {
		fd, err := unix.Openat(d.fd, n.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, changed(err)
		}
		return fd, nil
	}
}

// changed says that a scanned file is gone, or something else now.
func changed(err error) error {
	if absent(err) || errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%w (%w)", fileop.ErrChanged, err)
	}
	return err
}

func (d *treeDir) open() {
	if d.index < 0 {
		d.fd = d.t.top.FD()
		return
	}
	d.fd, d.err = openBeneath(d.t.top.FD(), d.t.m.entries[d.index].Path)
	d.opened = d.err == nil
	if d.err != nil {
		d.err = changed(d.err)
	}
}

// openBeneath opens a directory below another one, without any symlink on the
// way.
func openBeneath(dirfd int, p string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dirfd, p, &how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		return fd, err
	}
}

func (d *treeDir) Xattrs(n *fileop.Node, _ int) ([]fileop.Xattr, error) {
	i := d.index
	if n != nil {
		var err error
		if i, err = d.find(n.Name); err != nil {
			return nil, err
		}
	}
	if i < 0 {
		return nil, nil
	}
	return d.t.m.entries[i].Xattrs, nil
}

func (d *treeDir) Close() error {
	d.opening.Do(func() {}) // nothing opens it from now on
	if !d.opened {
		return nil
	}
	return unix.Close(d.fd)
}
