package snapshot

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// copier is the driver for machines without overlayfs. An active is a full
// copy of what its parents show together, and a commit compares it with that
// again:
//
//	layers ─ flatten ─▶ flat ─┬─ copy ─▶ active ─ the step writes
//	                          └──────────── compare ─▶ layer
//
// A flat is read-only, serves all views and actives of the same stack, and
// lives as long as they do. The last one without users is kept, since the next
// step mostly needs it again.
type copier struct {
	*core
	mu    sync.Mutex
	flats map[string]*flat
	// idle is the flat without users, if there is one.
	idle *flat
}

// flat is a stack of layers as one plain tree.
type flat struct {
	key   string
	users int
	// made is closed when dir and err are set.
	made chan struct{}
	dir  string
	err  error
}

func newCopier(c *core) *copier { return &copier{core: c, flats: make(map[string]*flat)} }

// Name implements Snapshotter.
func (c *copier) Name() string { return DriverCopy }

// Prepare implements Snapshotter.
func (c *copier) Prepare(ctx context.Context, key string, parents []string) (mount.Tree, error) {
	a, err := c.newActive(key, nameFS)
	if err != nil {
		return mount.Tree{}, err
	}
	if err := c.fill(ctx, a, parents); err != nil {
		c.take(key)
		return mount.Tree{}, errors.Join(fmt.Errorf("prepare snapshot: %w", c.st.Explain(err)), c.drop(a))
	}
	return mount.Tree{Dir: a.fsDir()}, nil
}

// fill copies what the parents show into an active.
func (c *copier) fill(ctx context.Context, a *active, parents []string) error {
	f, err := c.borrow(ctx, parents)
	if err != nil {
		return err
	}
	a.release = func() error { return c.giveBack(f) }
	err = withRoots(f.fsDir(), a.fsDir(), func(from, to *rootfs.Root) error { return tree.Copy(ctx, to, from) })
	if err != nil {
		return err
	}
	a.finish = func(ctx context.Context) (string, error) { return c.compare(ctx, f, a) }
	return nil
}

// compare makes a layer of what changed in an active. It reads the content of
// files that look alike: change times could tell, but not where the clock was
// set back during the step, and a lost change is worse than slow copying.
func (c *copier) compare(ctx context.Context, f *flat, a *active) (string, error) {
	dir, err := c.makeDir(nameFS)
	if err != nil {
		return "", err
	}
	dst := filepath.Join(dir, nameFS)
	err = withRoots(f.fsDir(), a.fsDir(), func(lower, upper *rootfs.Root) error {
		return tree.Compare(ctx, tree.CompareRequest{Lower: lower, Upper: upper, Dst: dst})
	})
	if err != nil {
		return "", errors.Join(err, c.throwAway(dir))
	}
	return dir, nil
}

// View implements Snapshotter.
func (c *copier) View(ctx context.Context, key string, parents []string) (mount.Tree, error) {
	a := &active{}
	if err := c.claim(key, a); err != nil {
		return mount.Tree{}, err
	}
	f, err := c.borrow(ctx, parents)
	if err != nil {
		c.take(key)
		return mount.Tree{}, fmt.Errorf("view snapshot: %w", c.st.Explain(err))
	}
	a.release = func() error { return c.giveBack(f) }
	return mount.Tree{Dir: f.fsDir(), ReadOnly: true}, nil
}

func (f *flat) fsDir() string { return filepath.Join(f.dir, nameFS) }

// borrow returns the flat of a stack, made by the first who asks.
func (c *copier) borrow(ctx context.Context, parents []string) (*flat, error) {
	layers, err := c.layers(parents)
	if err != nil {
		return nil, err
	}
	for {
		f, first := c.join(strings.Join(parents, "\n"))
		if first {
			c.make(ctx, f, layers)
		}
		select {
		case <-f.made:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), c.giveBack(f))
		}
		if f.err == nil {
			return f, nil
		}
		if first || !errors.Is(f.err, context.Canceled) || ctx.Err() != nil {
			return nil, f.err
		}
		// Whoever was making it gave up; we have not.
	}
}

// join adds a user to a flat, and reports whether it is the first ever, who
// has to make it.
func (c *copier) join(key string) (f *flat, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.flats[key]
	if !ok {
		f = &flat{key: key, made: make(chan struct{})}
		c.flats[key] = f
	}
	f.users++
	if c.idle == f {
		c.idle = nil
	}
	return f, !ok
}

func (c *copier) make(ctx context.Context, f *flat, layers []string) {
	f.dir, f.err = c.flatten(ctx, layers)
	if f.err != nil {
		c.mu.Lock()
		delete(c.flats, f.key)
		c.mu.Unlock()
	}
	close(f.made)
}

func (c *copier) flatten(ctx context.Context, layers []string) (string, error) {
	dir, err := c.makeDir(nameFS)
	if err != nil {
		return "", err
	}
	if len(layers) == 0 {
		return dir, nil
	}
	dst, err := rootfs.OpenDir(filepath.Join(dir, nameFS))
	if err == nil {
		err = tree.Flatten(ctx, tree.FlattenRequest{Layers: layers, Dst: dst, Format: c.format})
		err = errors.Join(err, dst.Close())
	}
	if err != nil {
		return "", errors.Join(err, c.throwAway(dir))
	}
	return dir, nil
}

// giveBack ends a use of a flat. Without users it becomes the idle one, in
// place of the one before.
func (c *copier) giveBack(f *flat) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.users--
	if f.users > 0 || c.flats[f.key] != f {
		return nil
	}
	old := c.idle
	c.idle = f
	if old == nil {
		return nil
	}
	delete(c.flats, old.key)
	return c.throwAway(old.dir)
}

// withRoots opens two directories as roots.
func withRoots(a, b string, fn func(a, b *rootfs.Root) error) error {
	ra, err := rootfs.OpenDir(a)
	if err != nil {
		return err
	}
	rb, err := rootfs.OpenDir(b)
	if err != nil {
		return errors.Join(err, ra.Close())
	}
	return errors.Join(fn(ra, rb), ra.Close(), rb.Close())
}
