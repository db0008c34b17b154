package rootfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Remove removes the file or the empty directory name.
func (d *Dir) Remove(name string) error {
	if err := plain(name); err != nil {
		return d.fail("remove", name, err)
	}
	err := unix.Unlinkat(d.fd, name, 0)
	if err == unix.EISDIR || err == unix.EPERM { // what unlink says of a directory
		if err2 := unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR); err2 != unix.ENOTDIR {
			err = err2
		}
	}
	if err != nil {
		return d.fail("remove", name, err)
	}
	return nil
}

// RemoveAll removes name and what is below, never following a symlink, whatever
// takes the place of a directory meanwhile (CVE-2024-23652). A name that is not
// there is no error.
func (d *Dir) RemoveAll(name string) error {
	err := d.Remove(name)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	rm := remover{top: d}
	return rm.tree(d, name, 0)
}

// maxDepth is how many directories a removal holds open on the way down.
const maxDepth = 100

// remover removes a tree depth first. A step can make a tree deeper than there
// are descriptors; what lies below maxDepth is first moved up beside the top.
type remover struct {
	top   *Dir
	moved int
}

func (rm *remover) tree(parent *Dir, name string, depth int) error {
	if depth == maxDepth {
		up, err := rm.moveUp(parent, name)
		if err != nil {
			return err
		}
		parent, name, depth = rm.top, up, 0
	}
	if err := rm.contents(parent, name, depth); err != nil {
		return err
	}
	err := unix.Unlinkat(parent.fd, name, unix.AT_REMOVEDIR)
	if err != nil && err != unix.ENOENT {
		return parent.fail("remove", name, err)
	}
	return nil
}

// moveUp moves a directory beside the top under a name that is free.
func (rm *remover) moveUp(parent *Dir, name string) (string, error) {
	for {
		up := fmt.Sprintf(".strata-removed-%d-%d", unix.Getpid(), rm.moved)
		rm.moved++
		err := parent.Rename(name, rm.top, up)
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTDIR) {
			return up, err
		}
	}
}

func (rm *remover) contents(parent *Dir, name string, depth int) error {
	dir, err := openToEmpty(parent, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.readAll()
	if err != nil {
		return parent.fail("list", name, err)
	}
	for _, e := range entries {
		if e.Type != unix.S_IFDIR {
			err = dir.Remove(e.Name)
		}
		if e.Type == unix.S_IFDIR || errors.Is(err, unix.ENOTEMPTY) {
			err = rm.tree(dir, e.Name, depth+1)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// openToEmpty opens a directory, and first gives an ordinary user the access
// that its mode denies to its owner.
func openToEmpty(parent *Dir, name string) (*Dir, error) {
	dir, err := parent.OpenDir(name)
	if errors.Is(err, unix.EACCES) {
		if err := parent.Chmod(name, 0o700); err != nil {
			return nil, err
		}
		return parent.OpenDir(name)
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if unix.Fstat(dir.fd, &st) == nil && st.Mode&0o300 != 0o300 && unix.Geteuid() != 0 {
		if err := unix.Fchmod(dir.fd, 0o700); err != nil {
			dir.Close()
			return nil, parent.fail("chmod", name, err)
		}
	}
	return dir, nil
}
