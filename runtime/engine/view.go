package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/internal/undo"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/rootfs"
)

// View is an image's merged tree, read-only, until it is closed.
type View struct {
	Image    image.Image
	Manifest image.Manifest
	// Root is where the tree begins. What is in it is the image's, and hostile.
	Root *rootfs.Root

	undo undo.Stack
}

// View opens the tree of an image of the store. platform chooses from an image
// of several platforms, and must be that of any other. nil takes this machine's
// of several, and any other image as it is.
func (e *Engine) View(ctx context.Context, ref string, platform *ocispec.Platform) (_ *View, err error) {
	v := &View{}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close())
		}
	}()
	lease, err := e.Store.NewLease(ctx)
	if err != nil {
		return nil, err
	}
	v.undo.Add(lease.Close)
	if v.Image, err = e.Images.Resolve(ctx, ref); err != nil {
		return nil, err
	}
	if v.Manifest, err = e.Images.Load(ctx, v.Image.Desc, platform, nil); err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	if platform != nil {
		if err := v.Manifest.RunsOn(*platform); err != nil {
			return nil, fmt.Errorf("image %s: %w", ref, err)
		}
	}
	return v, v.open(ctx, e)
}

// open unpacks the layers that are not yet, and mounts them.
func (v *View) open(ctx context.Context, e *Engine) error {
	layers, err := e.Images.Unpack(ctx, image.UnpackRequest{Manifest: v.Manifest})
	if err != nil {
		return err
	}
	key := "view-" + rand.Text()
	tree, err := e.Snapshots.View(ctx, key, layers)
	if err != nil {
		return fmt.Errorf("view image: %w", err)
	}
	v.undo.Add(func() error { return e.Snapshots.Remove(context.WithoutCancel(ctx), key) })
	f, err := tree.Open()
	if err != nil {
		return err
	}
	v.undo.Add(f.Close)
	if v.Root, err = rootfs.Open(f); err != nil {
		return err
	}
	v.undo.Add(v.Root.Close)
	return nil
}

// Close releases the tree.
func (v *View) Close() error { return v.undo.Close() }
