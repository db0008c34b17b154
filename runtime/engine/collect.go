package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

// BucketPlans holds compiled plans, which cmd keeps.
const BucketPlans = "plans"

// policy says which records keep things (names of images) and which may go
// (what a build can make again).
func policy() store.Policy {
	return store.Policy{
		Roots: []string{image.Bucket},
		Caches: []string{
			solver.BucketResults, solver.BucketContent, solver.BucketOps, solver.BucketBuilds,
			worker.CacheBucket, BucketHTTP, BucketPlans, image.ResolutionsBucket,
		},
		Attached: []string{layer.Bucket},
	}
}

// PruneRequest says what to remove.
type PruneRequest struct {
	// KeepBytes is what the cache may keep; All removes all that is not in
	// use by an image or a build.
	KeepBytes int64
	All       bool
	Filter    store.Filter
}

// Prune removes what nobody needs. It is safe beside running builds.
func (e *Engine) Prune(ctx context.Context, req PruneRequest) (store.Report, error) {
	p := policy()
	p.KeepBytes, p.All, p.Filter = req.KeepBytes, req.All, req.Filter
	owners, err := e.owners()
	if err != nil {
		return store.Report{}, err
	}
	if err := errors.Join(e.Store.Reap(ctx), e.Snapshots.Reap(ctx)); err != nil {
		return store.Report{}, err
	}
	rep, err := e.Store.Collect(ctx, p, owners...)
	if err != nil {
		return rep, err
	}
	return rep, e.Snapshots.Reap(ctx)
}

// Usage lists what the store holds.
func (e *Engine) Usage(ctx context.Context) (store.Usage, error) {
	owners, err := e.owners()
	if err != nil {
		return store.Usage{}, err
	}
	return e.Store.Usage(ctx, policy(), owners...)
}

func (e *Engine) owners() ([]store.Owner, error) {
	dir, err := e.caches()
	if err != nil {
		return nil, err
	}
	return []store.Owner{e.Snapshots.Owner(), cacheOwner{dir}}, nil
}

// cacheOwner owns the directories of cache mounts.
type cacheOwner struct{ dir string }

// Prefix implements store.Owner.
func (cacheOwner) Prefix() string { return worker.CachePrefix }

// IDs implements store.Owner.
func (o cacheOwner) IDs(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		entries, err := os.ReadDir(o.dir)
		if err != nil {
			yield("", fmt.Errorf("list caches: %w", err))
			return
		}
		for _, entry := range entries {
			if !yield(entry.Name(), nil) {
				return
			}
		}
	}
}

// Size implements store.Owner.
func (o cacheOwner) Size(ctx context.Context, id string) (int64, error) {
	var size int64
	err := filepath.WalkDir(filepath.Join(o.dir, id), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return size, nil // a step is at work in it
	}
	return size, err
}

// Remove implements store.Owner. The files were written by steps: no name in
// the directory is followed.
func (o cacheOwner) Remove(_ context.Context, id string) error {
	return openRoot(o.dir, func(root *rootfs.Root) error { return root.RemoveAll(id) })
}

func openRoot(dir string, fn func(*rootfs.Root) error) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	root, err := rootfs.Open(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(fn(root), root.Close(), f.Close())
}
