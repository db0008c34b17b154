package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strata-build/strata/runtime/mount"
)

// overlay is the driver that lets overlayfs do the work: an active is an
// upper directory, and committing it costs a rename.
type overlay struct{ *core }

// Name implements Snapshotter.
func (o *overlay) Name() string { return DriverOverlay }

// Prepare implements Snapshotter.
func (o *overlay) Prepare(ctx context.Context, key string, parents []string) (mount.Tree, error) {
	if err := ctx.Err(); err != nil {
		return mount.Tree{}, err
	}
	lower, err := o.layers(parents)
	if err != nil {
		return mount.Tree{}, fmt.Errorf("prepare snapshot: %w", err)
	}
	a, err := o.newActive(key, nameFS, nameWork)
	if err != nil {
		return mount.Tree{}, err
	}
	a.finish = func(context.Context) (string, error) {
		err := o.throwAway(filepath.Join(a.dir, nameWork))
		if errors.Is(err, os.ErrNotExist) {
			err = nil // an earlier Commit got this far
		}
		return a.dir, err
	}
	if len(lower) > 0 {
		// The root directory of an overlay is its upper directory's.
		if err := inherit(lower[len(lower)-1], a.fsDir()); err != nil {
			o.take(key)
			return mount.Tree{}, errors.Join(fmt.Errorf("prepare snapshot: %w", err), o.drop(a))
		}
	}
	return mount.Tree{
		Lower:     lower,
		Upper:     a.fsDir(),
		Work:      filepath.Join(a.dir, nameWork),
		Empty:     o.path(dirEmpty),
		UserXattr: o.format.UserXattr,
	}, nil
}

// View implements Snapshotter.
func (o *overlay) View(ctx context.Context, key string, parents []string) (mount.Tree, error) {
	if err := ctx.Err(); err != nil {
		return mount.Tree{}, err
	}
	lower, err := o.layers(parents)
	if err != nil {
		return mount.Tree{}, fmt.Errorf("view snapshot: %w", err)
	}
	if err := o.claim(key, &active{}); err != nil {
		return mount.Tree{}, err
	}
	if len(lower) == 0 {
		return mount.Tree{Dir: o.path(dirEmpty), ReadOnly: true}, nil
	}
	return mount.Tree{
		Lower: lower, Empty: o.path(dirEmpty), UserXattr: o.format.UserXattr, ReadOnly: true,
	}, nil
}
