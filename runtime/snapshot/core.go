package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
	"golang.org/x/sys/unix"
)

const (
	dirLayers = "layers"
	dirActive = "active"
	dirTrash  = "trash"
	dirEmpty  = "empty"
	dirKept   = "kept"

	// Within a layer or an active:
	nameFS    = "fs"
	nameWork  = "work"
	nameStamp = "stamp"
	nameSize  = "size"
)

// core is what the drivers share: layers, actives, and their removal.
type core struct {
	st     *store.Store
	dir    string
	format tree.Format
	reason string
	serial atomic.Uint64
	trash  trash

	mu      sync.Mutex
	actives map[string]*active

	// known are layers that this process has seen whole. It spares deep
	// stacks a system call per layer; one that was removed since makes the
	// mount fail, which names it.
	known sync.Map
}

// active is an active or a view of this process.
type active struct {
	// dir is its directory; empty for a view that has none.
	dir string
	// finish makes the directory ready to be renamed to a layer's name, and
	// returns it: the same one or another.
	finish func(ctx context.Context) (dir string, err error)
	// release gives back what the active borrowed.
	release func() error
}

// Reason implements Snapshotter.
func (c *core) Reason() string { return c.reason }

// UserXattr implements Snapshotter.
func (c *core) UserXattr() bool { return c.format.UserXattr }

// fsDir is where a layer's or an active's files are.
func (a *active) fsDir() string { return filepath.Join(a.dir, nameFS) }

// claim reserves a key.
func (c *core) claim(key string, a *active) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.actives[key]; ok {
		return fmt.Errorf("snapshot %q: %w", key, ErrExists)
	}
	c.actives[key] = a
	return nil
}

// take ends a key, so that exactly one caller gets to commit or remove it.
func (c *core) take(key string) (*active, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.actives[key]
	delete(c.actives, key)
	return a, ok
}

// newActive makes the directory of an active, for key, with the named
// sub-directories.
func (c *core) newActive(key string, sub ...string) (*active, error) {
	a := &active{}
	if err := c.claim(key, a); err != nil {
		return nil, err
	}
	dir, err := c.makeDir(sub...)
	if err != nil {
		c.take(key)
		return nil, fmt.Errorf("create snapshot %q: %w", key, c.st.Explain(err))
	}
	a.dir = dir
	return a, nil
}

// makeDir makes a directory that belongs to this process.
func (c *core) makeDir(sub ...string) (string, error) {
	name, err := c.ownedName()
	if err != nil {
		return "", err
	}
	dir := c.path(dirActive, name)
	// 0o700 keeps other users of the machine away from setuid programs in it.
	if err := unix.Mkdir(dir, 0o700); err != nil {
		return "", &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	for _, s := range sub {
		if err := makeRoot(filepath.Join(dir, s)); err != nil {
			return "", errors.Join(err, c.throwAway(dir))
		}
	}
	return dir, nil
}

// makeRoot makes a directory with a root directory's permissions, whatever
// the umask is.
func makeRoot(path string) error {
	if err := unix.Mkdir(path, 0o755); err != nil {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	if err := unix.Chmod(path, 0o755); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}

func (c *core) ownedName() (string, error) {
	owner, err := c.st.Owner()
	if err != nil {
		return "", err
	}
	return owner + "." + strconv.FormatUint(c.serial.Add(1), 10), nil
}

// NewLayer implements Snapshotter.
func (c *core) NewLayer(ctx context.Context, key string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	a, err := c.newActive(key, nameFS)
	if err != nil {
		return "", err
	}
	return a.fsDir(), nil
}

// Layer implements Snapshotter.
func (c *core) Layer(id string) (string, error) {
	if err := store.ValidName(id); err != nil {
		return "", fmt.Errorf("layer: %w", err)
	}
	if !c.trusted(id) {
		return "", fmt.Errorf("layer %s: %w", id, ErrNotFound)
	}
	c.known.Store(id, nil)
	return c.path(dirLayers, id, nameFS), nil
}

// trusted reports whether a layer counts.
func (c *core) trusted(id string) bool {
	stamp, err := os.Readlink(c.path(dirLayers, id, nameStamp))
	return err == nil && c.st.Trusts(store.Stamp(stamp))
}

// layers returns the directories of a stack.
func (c *core) layers(ids []string) ([]string, error) {
	dirs := make([]string, len(ids))
	for i, id := range ids {
		if _, ok := c.known.Load(id); ok {
			dirs[i] = c.path(dirLayers, id, nameFS)
			continue
		}
		dir, err := c.Layer(id)
		if err != nil {
			return nil, err
		}
		dirs[i] = dir
	}
	return dirs, nil
}

// Commit implements Snapshotter.
func (c *core) Commit(ctx context.Context, id, key string) error {
	if err := store.ValidName(id); err != nil {
		return fmt.Errorf("commit layer: %w", err)
	}
	a, ok := c.take(key)
	if !ok || a.dir == "" {
		return fmt.Errorf("commit %q: %w", key, ErrNotFound)
	}
	err := c.commit(ctx, id, a)
	switch {
	case err == nil:
		return a.close()
	case errors.Is(err, ErrExists):
		return errors.Join(fmt.Errorf("commit layer %s: %w", id, err), c.drop(a))
	}
	// The caller may still want to Remove it.
	return errors.Join(fmt.Errorf("commit layer %s: %w", id, c.st.Explain(err)), c.claim(key, a))
}

func (c *core) commit(ctx context.Context, id string, a *active) error {
	dir := a.dir
	if a.finish != nil {
		var err error
		if dir, err = a.finish(ctx); err != nil {
			return err
		}
	}
	err := c.st.Stamped(func(stamp store.Stamp) error {
		if err := c.st.LeaseMade(Ref(id)); err != nil {
			return err
		}
		if err := writeLink(string(stamp), filepath.Join(dir, nameStamp)); err != nil {
			return err
		}
		return c.place(ctx, dir, id)
	})
	if err == nil {
		c.known.Store(id, nil)
	}
	if dir == a.dir {
		return err
	}
	if err == nil {
		return c.throwAway(a.dir)
	}
	return errors.Join(err, c.throwAway(dir))
}

// place gives a finished directory its layer's name, which is the commit.
// Renaming onto a layer that exists fails, as its directory is never empty.
func (c *core) place(ctx context.Context, dir, id string) error {
	path := c.path(dirLayers, id)
	err := unix.Rename(dir, path)
	if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTEMPTY) {
		if err != nil {
			return &os.LinkError{Op: "rename", Old: dir, New: path, Err: err}
		}
		return nil
	}
	if c.trusted(id) {
		return ErrExists
	}
	if err := c.dropUntrusted(ctx, id); err != nil {
		return err
	}
	return c.place(ctx, dir, id)
}

// dropUntrusted removes a layer that a power loss may have damaged. The lock
// is for the moment between looking and renaming: in it another process could
// replace the layer with a good one.
func (c *core) dropUntrusted(ctx context.Context, id string) error {
	l, err := c.st.Lock(ctx, "snapshot replace")
	if err != nil {
		return err
	}
	if !c.trusted(id) {
		err = c.throwAway(c.path(dirLayers, id))
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.Unlock())
}

// writeLink makes a symbolic link, or replaces one.
func writeLink(content, path string) error {
	err := os.Symlink(content, path)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(content, path)
}

// Remove implements Snapshotter.
func (c *core) Remove(ctx context.Context, idOrKey string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if a, ok := c.take(idOrKey); ok {
		if err := c.drop(a); err != nil {
			return fmt.Errorf("remove snapshot %q: %w", idOrKey, err)
		}
		return nil
	}
	return c.removeLayer(idOrKey)
}

func (c *core) removeLayer(id string) error {
	if store.ValidName(id) != nil {
		return fmt.Errorf("remove %q: %w", id, ErrNotFound)
	}
	c.known.Delete(id)
	err := c.throwAway(c.path(dirLayers, id))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	return nil
}

// drop ends an active or a view.
func (c *core) drop(a *active) error {
	var err error
	if a.dir != "" {
		err = c.throwAway(a.dir)
	}
	return errors.Join(err, a.close())
}

func (a *active) close() error {
	if a.release == nil {
		return nil
	}
	return a.release()
}
