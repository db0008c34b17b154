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
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

// Buckets of records that packages above this one keep: cmd its compiled
// plans, package container its containers and volumes.
const (
	BucketPlans      = "plans"
	BucketContainers = "containers"
	BucketVolumes    = "volumes"
)

// Prefixes of the objects that records of containers and volumes refer to: the
// directory of that id in Containers and Volumes.
const (
	ContainerPrefix = "container:"
	VolumePrefix    = "volume:"
)

// policy says which records keep things (names of images) and which may go
// (what a build can make again).
func policy() store.Policy {
	return store.Policy{
		Roots: []string{image.Bucket, BucketContainers, BucketVolumes, BucketMounts},
		Caches: []string{
			solver.BucketResults, solver.BucketContent, solver.BucketOps, solver.BucketBuilds,
			worker.CacheBucket, BucketHTTP, BucketPlans, image.ResolutionsBucket,
		},
		Attached: []string{layer.Bucket},
	}
}

// PruneRequest says what to remove.
type PruneRequest struct {
	// KeepBytes is what the store may hold; All removes all that no image and
	// no running build needs. Without either of them, the unpacked layers of
	// images stay, too.
	KeepBytes int64
	All       bool
	Filter    store.Filter
}

// Prune removes what nobody needs. It is safe beside running builds.
func (e *Engine) Prune(ctx context.Context, req PruneRequest) (store.Report, error) {
	p := policy()
	p.KeepBytes, p.All, p.Filter = req.KeepBytes, req.All, req.Filter
	if _, err := e.Mounts(ctx); err != nil { // forgets those that a reboot ended
		return store.Report{}, err
	}
	owners, err := e.owners()
	if err != nil {
		return store.Report{}, err
	}
	if p.All || p.KeepBytes > 0 {
		return e.collect(ctx, p, owners)
	}
	return e.collectBesideImages(ctx, p, owners)
}

func (e *Engine) collect(ctx context.Context, p store.Policy, owners []store.Owner) (store.Report, error) {
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
	owners := []store.Owner{e.Snapshots.Owner(), e.Snapshots.KeptOwner()}
	for _, o := range []struct {
		prefix string
		dir    func() (string, error)
	}{{worker.CachePrefix, e.caches}, {ContainerPrefix, e.Containers}, {VolumePrefix, e.Volumes}} {
		dir, err := o.dir()
		if err != nil {
			return nil, err
		}
		owners = append(owners, dirOwner{o.prefix, dir, e.Layers.Format()})
	}
	return owners, nil
}

// dirOwner owns the directories in a directory: cache mounts, volumes, and
// what belongs to containers.
type dirOwner struct {
	prefix, dir string
	format      tree.Format
}

// Prefix implements store.Owner.
func (o dirOwner) Prefix() string { return o.prefix }

// IDs implements store.Owner.
func (o dirOwner) IDs(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		entries, err := os.ReadDir(o.dir)
		if err != nil {
			yield("", fmt.Errorf("list %s: %w", o.dir, err))
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
func (o dirOwner) Size(ctx context.Context, id string) (int64, error) {
	size, _, err := snapshot.Usage(ctx, filepath.Join(o.dir, id), o.format)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s%s: %w", o.prefix, id, store.ErrNotFound)
	}
	return size, err
}

// Remove implements store.Owner. The files were written by steps: no name in
// the directory is followed.
func (o dirOwner) Remove(_ context.Context, id string) error {
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
