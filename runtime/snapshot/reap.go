package snapshot

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/strata-build/strata/runtime/store"
)

// Reap implements Snapshotter.
func (c *core) Reap(ctx context.Context) error {
	err := errors.Join(c.reapActives(ctx), c.reapLayers(ctx), c.emptyTrash(ctx))
	if err != nil {
		return fmt.Errorf("reap snapshots: %w", err)
	}
	return nil
}

// reapActives removes the actives of dead processes.
func (c *core) reapActives(ctx context.Context) error {
	names, err := c.list(dirActive)
	if err != nil {
		return err
	}
	alive := make(map[string]bool)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		owner, _, _ := strings.Cut(name, ".")
		lives, asked := alive[owner]
		if !asked {
			if lives, err = c.st.OwnerAlive(owner); err != nil {
				return err
			}
			alive[owner] = lives
		}
		if lives {
			continue
		}
		if err := c.throwAway(c.path(dirActive, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// reapLayers removes the layers that do not count.
func (c *core) reapLayers(ctx context.Context) error {
	ids, err := c.list(dirLayers)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.trusted(id) {
			continue
		}
		if err := c.dropUntrusted(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (c *core) list(dir string) ([]string, error) {
	f, err := os.Open(c.path(dir))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Walk implements Snapshotter.
func (c *core) Walk(ctx context.Context, fn func(Info) error) error {
	for _, dir := range []string{dirLayers, dirActive} {
		names, err := c.list(dir)
		if err != nil {
			return fmt.Errorf("list snapshots: %w", err)
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if dir == dirLayers && !c.trusted(name) {
				continue
			}
			created, err := c.created(dir, name)
			if errors.Is(err, os.ErrNotExist) {
				continue // removed meanwhile
			}
			if err != nil {
				return fmt.Errorf("list snapshots: %w", err)
			}
			info := Info{ID: name, Active: dir == dirActive, Created: created, Dir: c.path(dir, name, nameFS)}
			if err := fn(info); err != nil {
				return err
			}
		}
	}
	return nil
}

// created returns the time of the commit, or of an active's beginning.
func (c *core) created(dir, name string) (time.Time, error) {
	path := c.path(dir, name)
	if dir == dirLayers {
		path = c.path(dir, name, nameStamp)
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return time.Time{}, err
	}
	return fi.ModTime(), nil
}

// layerOwner makes layers known to the store's collection.
type layerOwner struct{ *core }

// Owner implements Snapshotter.
func (c *core) Owner() store.Owner { return layerOwner{c} }

// Prefix implements store.Owner.
func (o layerOwner) Prefix() string { return RefPrefix }

// IDs implements store.Owner.
func (o layerOwner) IDs(ctx context.Context) iter.Seq2[string, error] { return o.ids(ctx, dirLayers) }

// ids lists a directory of objects.
func (c *core) ids(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := c.list(dir)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			if !yield(name, ctx.Err()) {
				return
			}
		}
	}
}

// Size implements store.Owner.
func (o layerOwner) Size(ctx context.Context, id string) (int64, error) {
	size, _, err := o.Usage(ctx, id)
	return size, notFound(err)
}

// Remove implements store.Owner.
func (o layerOwner) Remove(_ context.Context, id string) error {
	return notFound(o.removeLayer(id))
}

// notFound says in the store's words that an object is gone.
func notFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %w", store.ErrNotFound, err)
	}
	return err
}
