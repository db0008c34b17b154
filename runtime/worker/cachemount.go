package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

// CachePrefix begins the refs of cache mounts in the store.
const CachePrefix = "cache:"

// CacheBucket holds a record for each cache mount, for `du` and collection.
const CacheBucket = "caches"

// CacheMount is the record of a cache mount.
type CacheMount struct {
	ID  string `json:"id"`  // as the user named it
	Dir string `json:"dir"` // below the cache directory
}

// maxPrivate bounds the copies of one private cache: as many as there can be
// steps at once.
const maxPrivate = 256

// openCache mounts the directory of a cache.
//
// A cache is known by its id and by what it starts from. Its directory's name
// is a hash of both, so that no id of a user's is ever a path. shared: all
// steps have the same directory at once. locked: one step at a time has it.
// private: a step that finds it taken gets another one.
func (r *execRun) openCache(ctx context.Context, mt *mounted) error {
	id := mt.m.GetCacheOpt().GetID()
	if id == "" {
		id = path.Clean(mt.m.Dest)
	}
	from := scratch
	if mt.m.Input >= 0 {
		from = resultOf(r.in[mt.m.Input])
	}
	seed, err := r.w.chainDigest(ctx, from)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(id + "\x00" + seed.String() + "\x00" + path.Join("/", mt.m.Selector)))
	name := hex.EncodeToString(sum[:16])
	switch mt.m.GetCacheOpt().GetSharing() {
	case pb.CacheSharingOpt_LOCKED:
		lock, err := r.w.opt.Store.Lock(ctx, "cache "+name)
		if err != nil {
			return fmt.Errorf("wait for cache %q: %w", id, err)
		}
		r.undo.Add(lock.Unlock)
	case pb.CacheSharingOpt_PRIVATE:
		if name, err = r.privateCache(name); err != nil {
			return err
		}
	}
	return r.mountCache(ctx, mt, CacheMount{ID: id, Dir: name}, from)
}

// privateCache returns the first copy of a cache that nobody uses.
func (r *execRun) privateCache(name string) (string, error) {
	for i := range maxPrivate {
		candidate := name
		if i > 0 {
			candidate += "-" + strconv.Itoa(i)
		}
		lock, ok, err := r.w.opt.Store.TryLock("private cache " + candidate)
		if err != nil {
			return "", err
		}
		if ok {
			r.undo.Add(lock.Unlock)
			return candidate, nil
		}
	}
	return "", fmt.Errorf("more than %d steps use the private cache at once", maxPrivate)
}

func (r *execRun) mountCache(ctx context.Context, mt *mounted, c CacheMount, from *Result) error {
	dir, err := r.cacheDirectory(ctx, mt, c, from)
	if err != nil {
		return fmt.Errorf("cache %q: %w", c.ID, err)
	}
	defer dir.Close()
	if mt.file, err = mount.Bind(dir, mount.BindOptions{ReadOnly: mt.readonly}); err != nil {
		return fmt.Errorf("cache %q: %w", c.ID, err)
	}
	r.undo.Add(mt.file.Close)
	return nil
}

// cacheDirectory opens a cache's directory and makes it where it is missing.
// The record and the lease are made under the collection lock, so that no
// collection can take the directory from under the step.
func (r *execRun) cacheDirectory(ctx context.Context, mt *mounted, c CacheMount, from *Result) (*os.File, error) {
	dir := filepath.Join(r.w.opt.CacheDir, c.Dir)
	lock, err := r.w.opt.Store.Lock(ctx, "create cache "+c.Dir)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	ref := store.Ref(CachePrefix + c.Dir)
	err = r.w.opt.Store.Acquire(func() error { return r.w.opt.Lease.Add(ref) })
	if err != nil {
		return nil, err
	}
	if err := r.w.opt.Store.PutRecord(CacheBucket, c.Dir, c, ref); err != nil {
		return nil, err
	}
	if f, err := os.Open(dir); err == nil || !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if err := r.seedCache(ctx, mt, dir, from); err != nil {
		return nil, err
	}
	return os.Open(dir)
}

// seedCache makes a cache's directory of what it starts from, under another
// name first.
func (r *execRun) seedCache(ctx context.Context, mt *mounted, dir string, from *Result) error {
	fresh, err := r.w.opt.Store.TempDir()
	if err != nil {
		return err
	}
	target := filepath.Join(fresh, "cache")
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(target, 0o755); err != nil { // whatever the user's umask
		return err
	}
	if mt.m.Input >= 0 {
		if err := r.copyTree(ctx, target, from, mt.m.Selector); err != nil {
			return err
		}
	}
	if err := os.Rename(target, dir); err != nil {
		return err
	}
	return os.Remove(fresh)
}

// copyTree copies a directory of a result, with the attributes of the
// directory itself.
func (r *execRun) copyTree(ctx context.Context, target string, from *Result, sel string) (err error) {
	v, err := r.w.view(ctx, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	src, err := v.root.Sub(path.Join("/", sel))
	if err != nil {
		return fmt.Errorf("source %s: %w", sel, err)
	}
	defer src.Close()
	return fillDirectory(target, func(dst *rootfs.Root) error { return tree.Copy(ctx, dst, src) })
}
