package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/strata-build/strata/runtime/localsource"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/snapshot"
)

// openTree opens a snapshot's tree as a detached mount and as a root.
func openTree(t mount.Tree) (*os.File, *rootfs.Root, error) {
	f, err := t.Open()
	if err != nil {
		return nil, nil, err
	}
	root, err := rootfs.Open(f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, root, nil
}

// newLayerID names a layer. It is random: what a layer holds is known only
// once it is finished, and equal layers are told by their diff IDs.
func newLayerID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return "b" + hex.EncodeToString(b[:])
}

// active is a writable tree that becomes a layer.
type active struct {
	w    *Worker
	key  string
	tree mount.Tree
	file *os.File
	root *rootfs.Root
	// restored are directories that are as they were, see snapshot.Revert.
	restored []string
}

// prepare makes an active on top of layers.
func (w *Worker) prepare(ctx context.Context, layers []string) (*active, error) {
	key := w.newKey("active")
	t, err := w.opt.Snapshots.Prepare(ctx, key, layers)
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	f, root, err := openTree(t)
	if err != nil {
		return nil, errors.Join(err, w.opt.Snapshots.Remove(ctx, key))
	}
	return &active{w: w, key: key, tree: t, file: f, root: root}, nil
}

// closeTree ends the mount; the files stay.
func (a *active) closeTree() error {
	if a.root == nil {
		return nil
	}
	err := errors.Join(a.root.Close(), a.file.Close())
	a.root, a.file = nil, nil
	return err
}

// commit makes a layer of the active.
func (a *active) commit(ctx context.Context) (string, error) {
	if err := a.closeTree(); err != nil {
		return "", errors.Join(err, a.drop())
	}
	if err := snapshot.Revert(a.tree, a.restored); err != nil {
		return "", errors.Join(err, a.drop())
	}
	id := newLayerID()
	if err := a.w.opt.Snapshots.Commit(ctx, id, a.key); err != nil {
		return "", fmt.Errorf("commit snapshot: %w", err)
	}
	return id, a.w.lease(id)
}

// drop removes the active and all that was written to it.
func (a *active) drop() error {
	return errors.Join(a.closeTree(), a.w.opt.Snapshots.Remove(context.Background(), a.key))
}

// newLayer makes a layer on top of layers, of what fill writes.
func (w *Worker) newLayer(ctx context.Context, layers []string, fill func(*rootfs.Root) error) (string, error) {
	a, err := w.prepare(ctx, layers)
	if err != nil {
		return "", err
	}
	if err := fill(a.root); err != nil {
		return "", errors.Join(err, a.drop())
	}
	return a.commit(ctx)
}

// rawLayer makes a layer of a directory that fill writes in overlay format.
func (w *Worker) rawLayer(ctx context.Context, fill func(dir string) error) (string, error) {
	key := w.newKey("raw")
	dir, err := w.opt.Snapshots.NewLayer(ctx, key)
	if err != nil {
		return "", fmt.Errorf("create layer: %w", err)
	}
	if err := fill(dir); err != nil {
		return "", errors.Join(err, w.opt.Snapshots.Remove(context.WithoutCancel(ctx), key))
	}
	id := newLayerID()
	if err := w.opt.Snapshots.Commit(ctx, id, key); err != nil {
		return "", fmt.Errorf("commit layer: %w", err)
	}
	return id, w.lease(id)
}

// materialise returns the layer that holds the files of a local source. Its
// id comes from the content, so that it is made once; the lock keeps two
// builds from making it at the same time.
func (w *Worker) materialise(ctx context.Context, m *localsource.Manifest) (string, error) {
	id := "l" + m.Digest().Encoded()
	lock, err := w.opt.Store.Lock(ctx, "materialise "+id)
	if err != nil {
		return "", fmt.Errorf("lock local source: %w", err)
	}
	defer lock.Unlock()
	found := false
	err = w.opt.Store.Acquire(func() error {
		if found = w.opt.Layers.Have(id); found {
			return w.lease(id)
		}
		return nil
	})
	if err != nil || found {
		return id, err
	}
	return id, w.materialiseAs(ctx, m, id)
}

func (w *Worker) materialiseAs(ctx context.Context, m *localsource.Manifest, id string) error {
	key := w.newKey("local")
	dir, err := w.opt.Snapshots.NewLayer(ctx, key)
	if err != nil {
		return fmt.Errorf("create layer: %w", err)
	}
	if err := fillDirectory(dir, func(root *rootfs.Root) error {
		return localsource.Materialise(ctx, m, root, localsource.MaterialiseOptions{})
	}); err != nil {
		return errors.Join(err, w.opt.Snapshots.Remove(context.WithoutCancel(ctx), key))
	}
	if err := w.opt.Snapshots.Commit(ctx, id, key); err != nil && !errors.Is(err, snapshot.ErrExists) {
		return fmt.Errorf("commit local source: %w", err)
	}
	return w.lease(id)
}

// fillDirectory opens a directory as a root for fill.
func fillDirectory(dir string, fill func(*rootfs.Root) error) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	root, err := rootfs.Open(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(fill(root), root.Close(), f.Close())
}
