package fileop

import (
	"errors"
	"fmt"
	"path"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop/pattern"
	"github.com/strata-build/strata/runtime/rootfs"
)

// level is a directory of the source and the one it is copied to. Both stay
// open until the last reference is released: that of the walk, or of the last
// queued file.
type level struct {
	c       *copier
	src     Dir
	srcDir  string // resolved path of src, where matches are compared by it
	srcPath string // path of src as the action names it, for messages
	node    Node   // the source directory

	// dst is nil for a directory on the way, until something below it is
	// selected: it is then made as name in up.
	dst  *rootfs.Dir
	path string // of dst
	up   *level
	name string

	// rel and state are what patterns match with.
	rel   string
	state pattern.State

	// fresh is set when the copy made dst: nothing stands in it.
	fresh  bool
	finish finishKind
	refs   atomic.Int32
}

// finishKind says which attributes a level's directory gets in the end.
type finishKind int

const (
	// finishNothing leaves a directory as it is.
	finishNothing finishKind = iota
	// finishTimes sets its times only.
	finishTimes
	// finishAll gives it all attributes of the source.
	finishAll
)

// newLevel returns a level with the caller's reference.
func newLevel(l *level) *level {
	l.refs.Store(1)
	return l
}

// release drops a reference; the last one finishes the directory.
func (l *level) release() error {
	if l.refs.Add(-1) > 0 {
		return nil
	}
	var errs []error
	if l.dst != nil {
		if err := l.setAttrs(); err != nil {
			errs = append(errs, fail("set the attributes of", l.path, err))
		}
		errs = append(errs, l.dst.Close())
	}
	if l.src != nil {
		errs = append(errs, l.src.Close())
	}
	return errors.Join(errs...)
}

func (l *level) setAttrs() error {
	switch l.finish {
	case finishTimes:
		atime, mtime := l.c.times(&l.node)
		return futimens(l.dst.FD(), atime, mtime)
	case finishAll:
		xattrs, err := l.src.Xattrs(nil, -1)
		if err != nil {
			return err
		}
		a := l.c.attrs(&l.node, xattrs)
		return l.c.set.file(l.dst.FD(), &a)
	}
	return nil
}

// mkdir opens the destination directory, making it when it is not there. What
// is not a directory is replaced when replace is set.
func (l *level) mkdir(parent *rootfs.Dir, name string, replace bool) (made bool, err error) {
	err = unix.Mkdirat(parent.FD(), name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		l.dst, err = parent.OpenDir(name)
		if err == nil {
			return false, nil
		}
		if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			return false, err
		}
		if !replace {
			return false, fmt.Errorf("copy %q: %q exists and is not a directory", l.srcPath, l.path)
		}
		if err := parent.RemoveAll(name); err != nil {
			return false, err
		}
		err = unix.Mkdirat(parent.FD(), name, 0o700)
	}
	if err != nil {
		return false, fail("mkdir", l.path, err)
	}
	l.fresh = true
	l.dst, err = parent.OpenDir(name)
	return true, err
}

// ensure makes a directory on the way, and those above it.
func (l *level) ensure() error {
	if l.dst != nil {
		return nil
	}
	if err := l.up.ensure(); err != nil {
		return err
	}
	made, err := l.mkdir(l.up.dst, l.name, false)
	if err != nil {
		return err
	}
	if made {
		l.finish = finishAll
		return nil
	}
	return l.c.set.chmod(l.dst.FD(), l.node.Mode)
}

// walk copies the entries of a directory.
func (c *copier) walk(l *level) error {
	names, err := l.src.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(l, name); err != nil {
			return err
		}
	}
	return nil
}

// entry copies one entry of a directory, if it is selected.
func (c *copier) entry(l *level, name string) error {
	if err := c.pool.failed(); err != nil {
		return err
	}
	rel := path.Join(l.rel, name)
	v, state, err := c.filter.Match(rel, l.state)
	if err != nil || !v.Selected && !v.Descend {
		return err
	}
	n, err := l.src.Lookup(name)
	if err != nil {
		return err
	}
	if n.IsDir() {
		return c.dir(l, n, v, &level{
			c: c, up: l, name: name, node: n, rel: rel, state: state,
			path: path.Join(l.path, name), srcPath: path.Join(l.srcPath, name),
		})
	}
	if !v.Selected {
		return nil
	}
	c.required.add(path.Join(l.srcPath, name))
	if err := l.ensure(); err != nil {
		return err
	}
	return c.leaf(l, n, name)
}

// dir copies a sub-directory.
func (c *copier) dir(l *level, n Node, v pattern.Verdict, sub *level) (err error) {
	sub.refs.Store(1)
	defer func() { err = errors.Join(err, sub.release()) }()
	if sub.src, err = l.src.Sub(n.Name); err != nil {
		return err
	}
	if v.Selected {
		c.required.add(sub.srcPath)
		if err := l.ensure(); err != nil {
			return err
		}
		if _, err := sub.mkdir(l.dst, sub.name, c.a.GetAlwaysReplaceExistingDestPaths()); err != nil {
			return err
		}
		sub.finish = finishAll
	}
	if !v.Descend {
		return nil
	}
	return c.walk(sub)
}

// leaf copies what is not a directory to name in the level's directory.
func (c *copier) leaf(l *level, n Node, name string) error {
	if !l.fresh {
		if err := c.clear(l, name); err != nil {
			return err
		}
	}
	switch n.Type() {
	case unix.S_IFREG:
		return c.regular(l, n, name)
	case unix.S_IFSOCK: // as in BuildKit, an empty file
		n.Mode = unix.S_IFREG | n.Mode&0o7777
		n.Size, n.Sum, n.Nlink = 0, &emptySum, 1
		return c.regular(l, n, name)
	}
	xattrs, err := l.src.Xattrs(&n, -1)
	if err != nil {
		return err
	}
	a := c.attrs(&n, xattrs)
	if !n.IsLink() {
		return c.set.node(l.dst, name, &a)
	}
	if err := l.dst.Symlink(n.Link, name); err != nil {
		return err
	}
	return c.set.entry(l.dst, name, &a)
}

// clear removes what stands in the way of a file. A directory does so only
// when the action asks for it.
func (c *copier) clear(l *level, name string) error {
	err := unix.Unlinkat(l.dst.FD(), name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR):
		return fail("remove", path.Join(l.path, name), err)
	case c.a.GetAlwaysReplaceExistingDestPaths():
		return l.dst.RemoveAll(name)
	}
	return fmt.Errorf("copy to %q: cannot replace the directory there by a file", path.Join(l.path, name))
}

// hardLink is where the first of several links to a file was copied to.
type hardLink struct{ path string }

// regular queues a file for the writers. The first of several hard links is
// made at once, so that the others can be linked to it.
func (c *copier) regular(l *level, n Node, name string) error {
	if c.linker != nil {
		if done, err := c.linker.Link(l.dst, name, path.Join(l.srcPath, n.Name), &n); done || err != nil {
			return err
		}
	}
	j := &job{l: l, n: n, name: name, fd: -1}
	if n.Nlink > 1 {
		if first, ok := c.links[n.inode()]; ok {
			return c.hardLink(l, first, name)
		}
		c.links[n.inode()] = hardLink{path.Join(l.path, name)}
		fd, err := l.dst.Open(name, createFlags, 0o600)
		if err != nil {
			return err
		}
		j.fd = fd
	}
	l.refs.Add(1)
	return c.pool.add(j)
}

func (c *copier) hardLink(l *level, first hardLink, name string) error {
	from, old, err := c.openParent(first.path)
	if err != nil {
		return err
	}
	return errors.Join(l.dst.Link(from, old, name), from.Close())
}
