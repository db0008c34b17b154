package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Policy says what a collection keeps. A record in a bucket that no list
// names is kept, with all it refers to: forgetting a bucket costs space, not
// data.
type Policy struct {
	// Roots are buckets whose records are kept, with all they refer to. A
	// bucket in two of the lists is an error.
	Roots []string
	// Caches are buckets whose records may be dropped, the least recently
	// used first.
	Caches []string
	// Attached are buckets whose records live exactly as long as what their
	// first ref names; their other refs live as long as they do. They suit
	// facts about an object: a layer's blob. Without refs they are garbage.
	Attached []string
	// KeepBytes is how much the store may hold: cache records are dropped
	// until it holds no more, or only what roots and leases need. 0 is no
	// limit; with All, or a Filter, it is the limit 0.
	KeepBytes int64
	// All drops cache records without need, down to KeepBytes.
	All bool
	// Filter restricts which cache records are dropped.
	Filter Filter
}

func (p Policy) role(bucket string) role {
	switch {
	case slices.Contains(p.Caches, bucket):
		return whileRoom
	case slices.Contains(p.Attached, bucket):
		return byFirstRef
	}
	return always
}

func (p Policy) check() error {
	seen := make(map[string]bool)
	for _, bucket := range slices.Concat(p.Roots, p.Caches, p.Attached) {
		if seen[bucket] {
			return fmt.Errorf("bucket %q is named twice in the policy", bucket)
		}
		seen[bucket] = true
	}
	return nil
}

// drops reports whether the policy drops cache records that are in order.
func (p Policy) drops() bool { return p.All || p.KeepBytes > 0 || !p.Filter.isZero() }

// Report says what a collection removed.
type Report struct {
	// Removed lists it, the largest first.
	Removed []Item
	// Bytes is the sum of its sizes.
	Bytes int64
}

// Collect removes what the policy does not keep, in one go: while it looks
// and decides, every Acquire waits. It marks
//
//  1. what roots and living leases refer to, directly or through records;
//  2. cache records that the filter protects, and then the others, the
//     latest used first, while they fit into KeepBytes with all they refer to;
//
// and sweeps the rest. A cache record that refers to something that is gone
// is worth nothing and always goes. The owners' objects and the blobs that
// are no longer referred to go whether or not the filter selects them.
//
// Collect must not be called within an Acquire.
func (s *Store) Collect(ctx context.Context, p Policy, owners ...Owner) (Report, error) {
	var r Report
	if err := measure(ctx, owners); err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	err := s.exclusively(ctx, func() error {
		g, err := s.load(ctx, p, owners)
		if err != nil {
			return err
		}
		leased, err := s.leased()
		if err != nil {
			return err
		}
		if err := g.choose(ctx, p, leased); err != nil {
			return err
		}
		r, err = g.sweep(ctx)
		return err
	})
	err = errors.Join(err, s.Reap(ctx), s.dropLocks(ctx))
	if err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	return r, nil
}

// measure makes owners find out the sizes of their objects, which may take
// long, before everybody has to wait.
func measure(ctx context.Context, owners []Owner) error {
	for _, o := range owners {
		for id, err := range o.IDs(ctx) {
			if err != nil {
				return fmt.Errorf("list %s objects: %w", o.Prefix(), err)
			}
			if _, err := o.Size(ctx, id); err != nil && !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("size of %s%s: %w", o.Prefix(), id, err)
			}
		}
	}
	return nil
}

// choose marks what stays.
func (g *graph) choose(ctx context.Context, p Policy, leased []Ref) error {
	if p.KeepBytes > 0 {
		if err := g.sizeAll(ctx); err != nil {
			return err
		}
	}
	g.keepRoots(leased)
	var droppable []*thing
	for _, t := range g.cached() {
		switch {
		case t.mark != unmarked || g.broken(t):
		case !p.drops() || !p.Filter.matches(t, g.now):
			g.keep(t.Ref)
		default:
			droppable = append(droppable, t)
		}
	}
	if p.KeepBytes > 0 {
		g.fill(droppable, p.KeepBytes)
	}
	return nil
}

// fill keeps the first of the things, as many as fit. It ends at the first
// that does not: an old small record is not worth more than a new large one.
func (g *graph) fill(things []*thing, limit int64) {
	used := g.liveSize()
	fits := func(size int64) bool {
		if used+size > limit {
			return false
		}
		used += size
		return true
	}
	for _, t := range things {
		if t.mark == unmarked && !g.keepIf(t.Ref, fits) {
			return
		}
	}
}

// sweep removes what is not marked. It goes on after an error.
func (g *graph) sweep(ctx context.Context) (Report, error) {
	var r Report
	var errs []error
	for _, t := range g.doomed() {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		removed, err := g.removeThing(ctx, t)
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", t.Ref, err))
		}
		if removed {
			r.Removed = append(r.Removed, t.Item)
			r.Bytes += t.Size
		}
	}
	sortItems(r.Removed)
	return r, errors.Join(errs...)
}

// doomed lists what is not marked, records first: if the sweep is cut short,
// what is left over is not a record of things that are gone.
func (g *graph) doomed() []*thing {
	list := slices.Clone(g.damaged)
	var rest []*thing
	for _, t := range g.things {
		switch {
		case t.mark != unmarked:
		case t.Ref.prefix() == recordPrefix:
			list = append(list, t)
		default:
			rest = append(rest, t)
		}
	}
	return append(list, rest...)
}

// sortItems puts the largest first.
func sortItems(items []Item) {
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Ref, b.Ref))
	})
}

func (g *graph) removeThing(ctx context.Context, t *thing) (bool, error) {
	switch {
	case t.owner != nil:
		if err := g.size(ctx, t); err != nil {
			return false, err
		}
		return gone(t.owner.Remove(ctx, t.key))
	case t.Ref.prefix() == downloadPrefix:
		return g.s.dropDownload(t)
	case t.Ref.prefix() == blobPrefix:
		return gone(g.s.trashBlob(t))
	}
	return gone(removeFile(t.path))
}

// gone reports a removal that somebody else may have been faster with.
func gone(err error) (bool, error) {
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// dropDownload removes a partial download that nobody is writing.
func (s *Store) dropDownload(t *thing) (bool, error) {
	l, ok, err := s.TryLock("ingest " + t.key)
	if !ok || err != nil {
		return false, err
	}
	err = errors.Join(removeFile(t.path), l.Unlock())
	return err == nil, err
}

// trashBlob takes a blob away with a rename; the file system's work of
// freeing a large file is done by Reap, when nobody waits for us any more.
func (s *Store) trashBlob(t *thing) error {
	name, err := s.ownedName()
	if err != nil {
		return err
	}
	err = s.unstampBlob(hexOf(t.Ref))
	return errors.Join(err, os.Rename(t.path, s.path(dirTrash, name)))
}

// hexOf returns the file name of a blob's ref.
func hexOf(r Ref) string { return string(r[len(blobPrefix)+len("sha256:"):]) }

// emptyTrash deletes the blobs on their way out.
func (s *Store) emptyTrash(ctx context.Context) error {
	entries, err := os.ReadDir(s.path(dirTrash))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := removeFile(s.path(dirTrash, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
