package snapshot

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

// KeptPrefix begins the refs of kept trees in the store: "kept:<id>".
const KeptPrefix = "kept:"

// KeptRef returns the store's ref of a kept tree.
func KeptRef(id string) store.Ref { return store.Ref(KeptPrefix + id) }

func (c *core) keptPath(id string, elem ...string) string {
	return c.path(dirKept, id, filepath.Join(elem...))
}

// keep makes the directory of a kept tree and has fill make it ready: it has
// its name only then.
func (c *core) keep(id string, fill func(fsDir string) error) error {
	if err := store.ValidName(id); err != nil {
		return fmt.Errorf("keep tree: %w", err)
	}
	dir, err := c.makeDir(nameFS)
	if err != nil {
		return fmt.Errorf("keep tree %s: %w", id, c.st.Explain(err))
	}
	err = fill(filepath.Join(dir, nameFS))
	if err == nil {
		err = c.st.Acquire(func() error {
			if err := c.st.LeaseMade(KeptRef(id)); err != nil {
				return err
			}
			return unix.Rename(dir, c.keptPath(id))
		})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY):
		err = ErrExists
	}
	return errors.Join(fmt.Errorf("keep tree %s: %w", id, c.st.Explain(err)), c.throwAway(dir))
}

// keptDir returns the directory of a kept tree's files.
func (c *core) keptDir(id string) (string, error) {
	if err := store.ValidName(id); err != nil {
		return "", fmt.Errorf("kept tree: %w", err)
	}
	dir := c.keptPath(id, nameFS)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("kept tree %s: %w", id, ErrNotFound)
	} else if err != nil {
		return "", err
	}
	return dir, nil
}

// DropKept implements Snapshotter. It does not leave the work to the
// background, which ends with the process: `strata run --rm` and `strata rm`
// end right after it, and who removes a container wants the space.
func (c *core) DropKept(id string) error {
	if err := store.ValidName(id); err != nil {
		return fmt.Errorf("remove kept tree: %w", err)
	}
	err := c.discard(c.keptPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove kept tree %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("remove kept tree %s: %w", id, err)
	}
	return nil
}

// Keep implements Snapshotter.
func (o *overlay) Keep(ctx context.Context, id string, parents []string) error {
	lower, err := o.layers(parents)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return fmt.Errorf("keep tree %s: %w", id, err)
	}
	return o.keep(id, func(fsDir string) error {
		if len(lower) == 0 {
			return nil
		}
		// The root directory of an overlay is its upper directory's.
		return inherit(lower[len(lower)-1], fsDir)
	})
}

// OpenKept implements Snapshotter. A work directory serves one mount: the
// last one's, which a killed process may have left, goes.
func (o *overlay) OpenKept(ctx context.Context, id string, parents []string) (mount.Tree, error) {
	upper, err := o.keptDir(id)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return mount.Tree{}, err
	}
	lower, err := o.layers(parents)
	if err != nil {
		return mount.Tree{}, fmt.Errorf("open kept tree %s: %w", id, err)
	}
	work := o.keptPath(id, nameWork)
	if err := o.throwAway(work); err != nil && !errors.Is(err, os.ErrNotExist) {
		return mount.Tree{}, fmt.Errorf("open kept tree %s: %w", id, err)
	}
	if err := makeRoot(work); err != nil {
		return mount.Tree{}, fmt.Errorf("open kept tree %s: %w", id, o.st.Explain(err))
	}
	return mount.Tree{
		Lower: lower, Upper: upper, Work: work, Durable: true,
		Empty: o.path(dirEmpty), UserXattr: o.format.UserXattr,
	}, nil
}

// Changed implements Snapshotter.
func (o *overlay) Changed(ctx context.Context, id string, _ []string, fn func(dir string) error) error {
	upper, err := o.keptDir(id)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	return fn(upper)
}

// Keep implements Snapshotter.
func (c *copier) Keep(ctx context.Context, id string, parents []string) error {
	f, err := c.borrow(ctx, parents)
	if err != nil {
		return fmt.Errorf("keep tree %s: %w", id, c.st.Explain(err))
	}
	err = c.keep(id, func(fsDir string) error {
		return withRoots(f.fsDir(), fsDir, func(from, to *rootfs.Root) error { return tree.Copy(ctx, to, from) })
	})
	return errors.Join(err, c.giveBack(f))
}

// OpenKept implements Snapshotter.
func (c *copier) OpenKept(ctx context.Context, id string, _ []string) (mount.Tree, error) {
	dir, err := c.keptDir(id)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return mount.Tree{}, err
	}
	return mount.Tree{Dir: dir}, nil
}

// Changed implements Snapshotter.
func (c *copier) Changed(ctx context.Context, id string, parents []string, fn func(dir string) error) error {
	upper, err := c.keptDir(id)
	if err != nil {
		return err
	}
	f, err := c.borrow(ctx, parents)
	if err != nil {
		return fmt.Errorf("compare kept tree %s: %w", id, c.st.Explain(err))
	}
	dir, err := c.compare(ctx, f, &active{dir: filepath.Dir(upper)})
	if err == nil {
		err = errors.Join(fn(filepath.Join(dir, nameFS)), c.throwAway(dir))
	}
	return errors.Join(err, c.giveBack(f))
}

// keptOwner makes kept trees known to the store's collection.
type keptOwner struct{ *core }

// KeptOwner implements Snapshotter.
func (c *core) KeptOwner() store.Owner { return keptOwner{c} }

// Prefix implements store.Owner.
func (keptOwner) Prefix() string { return KeptPrefix }

// IDs implements store.Owner.
func (o keptOwner) IDs(ctx context.Context) iter.Seq2[string, error] { return o.ids(ctx, dirKept) }

// Size implements store.Owner. A kept tree changes, so nothing is remembered.
func (o keptOwner) Size(ctx context.Context, id string) (int64, error) {
	dir, err := o.keptDir(id)
	if err != nil {
		return 0, notFound(err)
	}
	bytes, _, err := Usage(ctx, dir, o.format)
	if errors.Is(err, os.ErrNotExist) { // it was dropped since
		return 0, fmt.Errorf("kept tree %s: %w", id, store.ErrNotFound)
	}
	return bytes, err
}

// Remove implements store.Owner.
func (o keptOwner) Remove(_ context.Context, id string) error { return notFound(o.DropKept(id)) }
