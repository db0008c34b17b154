package fileop

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// RootOptions say how RootTree reads.
type RootOptions struct {
	// SingleID is set when owners and devices are recorded as overrides.
	SingleID bool
}

// RootTree is the tree of an open root, which stays the caller's.
func RootTree(r *rootfs.Root, o RootOptions) Tree { return rootTree{r, o} }

type rootTree struct {
	root *rootfs.Root
	o    RootOptions
}

func (t rootTree) Root() (Dir, error) {
	d, err := t.root.Dir()
	if err != nil {
		return nil, err
	}
	return &rootDir{d, t.o}, nil
}

type rootDir struct {
	*rootfs.Dir
	o RootOptions
}

func (d *rootDir) Self() (Node, error) {
	st, err := d.Stat()
	if err != nil {
		return Node{}, err
	}
	return d.node("", st)
}

func (d *rootDir) Names() ([]string, error) {
	entries, err := d.ReadDir()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	return names, nil
}

func (d *rootDir) Lookup(name string) (Node, error) {
	st, err := d.Lstat(name)
	if err != nil {
		return Node{}, err
	}
	return d.node(name, st)
}

// node completes what stat tells: a symlink's target, and the override of an
// inode whose owner or type the kernel did not let us set.
func (d *rootDir) node(name string, st unix.Stat_t) (Node, error) {
	n := nodeOf(name, &st)
	var err error
	switch {
	case n.IsLink():
		n.Link, err = d.Readlink(name)
	case d.o.SingleID && (n.IsDir() || n.IsRegular()):
		err = d.override(&n)
	}
	return n, err
}

func nodeOf(name string, st *unix.Stat_t) Node {
	return Node{
		Name: name, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size,
		Rdev: st.Rdev, Atime: st.Atim, Mtime: st.Mtim,
		Dev: st.Dev, Ino: st.Ino, Nlink: uint64(st.Nlink),
	}
}

func (d *rootDir) override(n *Node) error {
	attrs, err := d.Dir.Xattrs(n.Name)
	if err != nil {
		return err
	}
	value, ok := attrs[tree.OverrideXattr]
	if !ok {
		return nil
	}
	o, err := tree.ParseOverride(value)
	if err != nil {
		return err
	}
	n.UID, n.GID, n.Mode = o.UID, o.GID, o.Mode
	n.Rdev = unix.Mkdev(o.Major, o.Minor)
	return nil
}

func (d *rootDir) Sub(name string) (Dir, error) {
	sub, err := d.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &rootDir{sub, d.o}, nil
}

// Open does not wait for the other end of a FIFO that took the file's place.
func (d *rootDir) Open(n *Node) (int, error) {
	return d.Dir.Open(n.Name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
}

func (d *rootDir) Xattrs(n *Node, fd int) ([]Xattr, error) {
	var attrs map[string]string
	var err error
	switch {
	case fd >= 0:
		attrs, err = rootfs.FileXattrs(fd)
	case n == nil:
		attrs, err = d.Dir.Xattrs("")
	default:
		attrs, err = d.Dir.Xattrs(n.Name)
	}
	return portable(attrs), err
}

// portable returns the attributes that a copy takes along, sorted by name.
func portable(attrs map[string]string) []Xattr {
	var out []Xattr
	for name, value := range attrs {
		if PortableXattr(name) {
			out = append(out, Xattr{name, value})
		}
	}
	slices.SortFunc(out, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out
}
