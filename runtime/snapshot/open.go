package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

// The names of the drivers.
const (
	DriverOverlay = "overlay"
	DriverCopy    = "copy"
)

// probeBucket holds, per kind of process, that overlay worked in this boot.
const probeBucket = "snapshot-probes"

// Options choose the driver.
type Options struct {
	// Driver is DriverOverlay, DriverCopy, or empty for overlay where it
	// works and copy elsewhere.
	Driver string
	// UserXattr is to be set inside a user namespace.
	UserXattr bool
}

// Open returns the snapshotter of a store.
func Open(st *store.Store, o Options) (Snapshotter, error) {
	s, err := open(st, o)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	return s, nil
}

func open(st *store.Store, o Options) (Snapshotter, error) {
	c, err := newCore(st, tree.Format{UserXattr: o.UserXattr})
	if err != nil {
		return nil, err
	}
	switch o.Driver {
	case DriverCopy:
		c.reason = "chosen by the user"
		return newCopier(c), nil
	case DriverOverlay:
		if err := c.probe(); err != nil {
			return nil, fmt.Errorf("overlayfs cannot be used (choose the driver %q instead): %w", DriverCopy, err)
		}
		c.reason = "chosen by the user"
		return &overlay{c}, nil
	case "":
		if err := c.probe(); err != nil {
			c.reason = fmt.Sprintf("overlayfs cannot be used: %v", err)
			return newCopier(c), nil
		}
		c.reason = "overlayfs works on " + c.dir
		return &overlay{c}, nil
	}
	return nil, fmt.Errorf("unknown snapshot driver %q; known are %q and %q", o.Driver, DriverOverlay, DriverCopy)
}

func newCore(st *store.Store, f tree.Format) (*core, error) {
	dir, err := st.Dir("snapshots")
	if err != nil {
		return nil, err
	}
	c := &core{st: st, dir: dir, format: f, actives: make(map[string]*active)}
	for _, name := range []string{dirLayers, dirActive, dirTrash, dirEmpty, dirKept} {
		err := os.Mkdir(c.path(name), 0o700)
		switch {
		case err == nil && name == dirActive:
			spread(c.path(name))
		case err == nil && name == dirEmpty:
			// It becomes the root directory of trees without layers.
			err = os.Chmod(c.path(name), 0o755)
		case errors.Is(err, os.ErrExist):
			err = nil
		}
		if err != nil {
			return nil, err
		}
	}
	return c, c.checkFormat()
}

// checkFormat refuses layers whose opaque directories this process could not
// see as such: files that were deleted would come back.
func (c *core) checkFormat() error {
	name, path := c.format.OpaqueXattr(), c.path("opaque")
	err := os.Symlink(name, path)
	if err == nil || !errors.Is(err, os.ErrExist) {
		return err
	}
	have, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if have != name {
		return fmt.Errorf("%s holds layers that use %s, but this process can only use %s: choose another root",
			c.dir, have, name)
	}
	return nil
}

// probe tries overlayfs, once in a boot for each kind of process. A failure
// is not remembered: loading a kernel module may cure it.
func (c *core) probe() error {
	key := fmt.Sprintf("overlay uid=%d userxattr=%t", os.Geteuid(), c.format.UserXattr)
	var boot string
	if ok, err := c.st.GetRecord(probeBucket, key, &boot); err != nil || ok && boot == c.st.BootID() {
		return err
	}
	dir, err := c.st.TempDir()
	if err != nil {
		return err
	}
	err = mount.OverlaySupported(dir, c.format.UserXattr)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return err
	}
	return c.st.PutRecord(probeBucket, key, c.st.BootID())
}

func (c *core) path(elem ...string) string {
	return filepath.Join(c.dir, filepath.Join(elem...))
}
