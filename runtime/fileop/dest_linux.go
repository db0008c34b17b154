package fileop

import (
	"errors"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// dest is the destination of one action.
type dest struct {
	root *rootfs.Root
	tree Tree // the same root, to look things up in
	set  setter
	// own and time are what the action asks for; nil for nothing.
	own  *owner
	time *unix.Timespec
	// made are the directories made on the way to the destination. Their
	// times are set again at the end, since what is put into them changes it.
	made []*rootfs.Dir
}

func newDest(root *rootfs.Root, o *Options) *dest {
	return &dest{
		root: root,
		tree: RootTree(root, RootOptions{SingleID: o.SingleID}),
		set:  setter{single: o.SingleID},
	}
}

// resolve returns p without symlinks; what does not exist stays as written.
func (d *dest) resolve(p string) (string, error) {
	top, err := d.tree.Root()
	if err != nil {
		return "", err
	}
	resolved, err := resolve(top, p, true)
	return resolved, errors.Join(err, top.Close())
}

// open opens the directory at a resolved path.
func (d *dest) open(p string) (*rootfs.Dir, error) {
	dir, err := openDir(d.tree, p)
	if err != nil {
		return nil, err
	}
	return dir.(*rootDir).Dir, nil
}

// stat describes what stands at a resolved path; nil for nothing.
func (d *dest) stat(p string) (*Node, error) {
	dir, n, err := lookup(d.tree, p)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &n, dir.Close()
}

// mkdirAll makes the directory at a resolved path, and its missing parents,
// and returns its handle.
func (d *dest) mkdirAll(p string, mode uint32) (*rootfs.Dir, error) {
	dir, err := d.root.Dir()
	if err != nil {
		return nil, err
	}
	for _, name := range components(p) {
		sub, err := dir.OpenDir(name)
		if errors.Is(err, fs.ErrNotExist) {
			sub, err = d.mkdir(dir, name, mode)
		}
		if err := errors.Join(err, dir.Close()); err != nil {
			return nil, err
		}
		dir = sub
	}
	return dir, nil
}

// mkdir makes one directory that the action asks for. It inherits group and
// setgid bit of a parent that has the bit, as if mkdir alone had made it.
func (d *dest) mkdir(parent *rootfs.Dir, name string, mode uint32) (*rootfs.Dir, error) {
	if err := unix.Mkdirat(parent.FD(), name, 0o700); err != nil {
		return nil, fail("mkdir", path.Join(parent.Path(), name), err)
	}
	made, err := parent.OpenDir(name)
	if err != nil {
		return nil, err
	}
	st, err := made.Stat()
	if err != nil {
		return nil, errors.Join(err, made.Close())
	}
	a := attrs{mode: unix.S_IFDIR | mode | st.Mode&unix.S_ISGID, own: d.own, atime: d.time, mtime: d.time}
	if err := d.set.file(made.FD(), &a); err != nil {
		return nil, errors.Join(fail("mkdir", made.Path(), err), made.Close())
	}
	return made, d.remember(parent, name)
}

func (d *dest) remember(parent *rootfs.Dir, name string) error {
	if d.time == nil {
		return nil
	}
	handle, err := parent.OpenDir(name)
	if err != nil {
		return err
	}
	d.made = append(d.made, handle)
	return nil
}

// finish sets the times of the directories that were made on the way.
func (d *dest) finish() error {
	var errs []error
	for _, dir := range d.made {
		if err := futimens(dir.FD(), d.time, d.time); err != nil {
			errs = append(errs, fail("set the times of", dir.Path(), err))
		}
		errs = append(errs, dir.Close())
	}
	d.made = nil
	return errors.Join(errs...)
}

// openParent opens the directory that holds a resolved path.
func (d *dest) openParent(p string) (dir *rootfs.Dir, name string, err error) {
	parent, name := path.Split(p)
	dir, err = d.open(parent)
	return dir, name, err
}
