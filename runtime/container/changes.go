package container

import (
	"context"
	"fmt"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/snapshot"
)

// Changes calls fn for each path that a container has added, changed or deleted
// on its image.
func (s *Set) Changes(ctx context.Context, id string, fn func(layer.Change) error) error {
	return s.changed(ctx, id, func(dir string, lower []string) error {
		for change, err := range layer.Changes(ctx, dir, lower, s.e.Layers.Format()) {
			if err != nil {
				return fmt.Errorf("compare container with its image: %w", err)
			}
			if err := fn(change); err != nil {
				return err
			}
		}
		return nil
	})
}

// changed calls fn with the directory of what a container has written, and the
// directories of its image's layers.
func (s *Set) changed(ctx context.Context, id string, fn func(dir string, lower []string) error) error {
	rec, err := s.Get(id)
	if err != nil {
		return err
	}
	layers, err := s.layers(ctx, &rec)
	if err != nil {
		return err
	}
	lower := make([]string, len(layers))
	for i, l := range layers {
		if lower[i], err = s.e.Layers.Layer(l); err != nil {
			return err
		}
	}
	return s.e.Snapshots.Changed(ctx, id, layers, func(dir string) error { return fn(dir, lower) })
}

// Size is how many bytes a container has written.
func (s *Set) Size(ctx context.Context, id string) (int64, error) {
	if _, err := s.Get(id); err != nil {
		return 0, err
	}
	var size int64
	err := s.changed(ctx, id, func(dir string, _ []string) error {
		var err error
		size, _, err = snapshot.Usage(ctx, dir, s.e.Layers.Format())
		return err
	})
	return size, err
}

// ImageSize is the size of the uncompressed layers of a container's image.
func (s *Set) ImageSize(ctx context.Context, rec *Record) (int64, error) {
	m, err := s.e.Images.Load(ctx, rec.Image.Manifest, nil, nil)
	if err != nil {
		return 0, fmt.Errorf("image of the container: %w", err)
	}
	sizes, err := s.e.Layers.Sizes()
	if err != nil {
		return 0, err
	}
	var sum int64
	for i, desc := range m.Layers {
		size, err := sizes.Of(ctx, desc, m.Config.RootFS.DiffIDs[i])
		if err != nil {
			return 0, fmt.Errorf("size of the container's image: %w", err)
		}
		sum += size
	}
	return sum, nil
}
