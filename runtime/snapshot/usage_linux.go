package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

// Usage implements Snapshotter.
func (c *core) Usage(ctx context.Context, id string) (bytes, inodes int64, err error) {
	if err := store.ValidName(id); err != nil {
		return 0, 0, fmt.Errorf("size of layer: %w", err)
	}
	link := c.path(dirLayers, id, nameSize)
	if text, err := os.Readlink(link); err == nil {
		if _, err := fmt.Sscanf(text, "%d.%d", &bytes, &inodes); err == nil {
			return bytes, inodes, nil
		}
	}
	bytes, inodes, err = Usage(ctx, c.path(dirLayers, id, nameFS), c.format)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, fmt.Errorf("layer %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("size of layer %s: %w", id, err)
	}
	// Without the link it is computed again next time, no more.
	_ = writeLink(fmt.Sprintf("%d.%d", bytes, inodes), link)
	return bytes, inodes, nil
}

// Usage adds up a directory tree, files with several names once. Somebody may
// be at work in it.
func Usage(ctx context.Context, dir string, f tree.Format) (bytes, inodes int64, err error) {
	u := usage{seen: make(map[uint64]bool)}
	err = tree.Walk(ctx, tree.WalkRequest{Layers: []string{dir}, Format: f, Raw: true, Changing: true}, &u)
	return u.bytes, u.inodes, err
}

// usage is a tree.Visitor that adds up sizes.
type usage struct {
	bytes, inodes int64
	seen          map[uint64]bool
}

// Enter implements tree.Visitor.
func (u *usage) Enter(e *tree.Entry) error {
	if !e.IsDir() && e.Stat.Nlink > 1 {
		if u.seen[e.Stat.Ino] {
			return nil
		}
		u.seen[e.Stat.Ino] = true
	}
	u.inodes++
	u.bytes += e.Stat.Blocks * 512
	return nil
}

// Leave implements tree.Visitor.
func (u *usage) Leave(*tree.Entry) error { return nil }
