package engine

import (
	"context"
	"errors"
	"maps"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// ImageFacts is an image with what is known about it.
type ImageFacts struct {
	image.Image
	// Names are all names of the image with this id.
	Names []image.Image
	// Manifests are the platforms that are in the store.
	Manifests []image.Manifest
	// Main is the one that a container would run, or else the first.
	Main image.Manifest
	// LayerSizes are those of the uncompressed layers of Main, bottom first;
	// -1 of a layer that was not fetched.
	LayerSizes []int64
	// Size is that of all platforms' layers, each counted once. Shared is how
	// much of it other images have as well.
	Size, Shared int64
	// Damage is why nothing is known about the image.
	Damage error

	layers map[digest.Digest]int64 // sizes by diff ID, of all platforms
}

// Created is when the image was made. One that was made reproducibly does not
// tell: then it is when it got its name here.
func (f ImageFacts) Created() time.Time {
	made := f.Main.Config.Created
	if made == nil || !made.After(time.Unix(0, 0)) {
		return f.Image.Created
	}
	return *made
}

// Unique is the part of the size that no other image has.
func (f ImageFacts) Unique() int64 { return f.Size - f.Shared }

// StoredSize is the size of the images' layers, each counted once.
func StoredSize(images []ImageFacts) int64 {
	all := map[digest.Digest]int64{}
	for _, f := range images {
		maps.Copy(all, f.layers)
	}
	var sum int64
	for _, size := range all {
		sum += size
	}
	return sum
}

// ImageList describes all images, one entry for each name.
func (e *Engine) ImageList(ctx context.Context) ([]ImageFacts, error) {
	all, err := e.Images.List()
	if err != nil {
		return nil, err
	}
	sizes, err := e.Layers.Sizes()
	if err != nil {
		return nil, err
	}
	byID := map[digest.Digest][]image.Image{}
	for _, img := range all {
		byID[img.ID] = append(byID[img.ID], img)
	}
	s := &survey{e: e, sizes: sizes, users: map[digest.Digest]map[digest.Digest]bool{}}
	facts := make([]ImageFacts, len(all))
	for i, img := range all {
		facts[i] = ImageFacts{Image: img, Names: byID[img.ID]}
		if err := s.fill(ctx, &facts[i]); err != nil {
			return nil, err
		}
	}
	for i := range facts {
		s.share(&facts[i])
	}
	return facts, nil
}

// ImageFacts describes one image, for a platform if that is not nil.
func (e *Engine) ImageFacts(ctx context.Context, img image.Image, platform *ocispec.Platform) (ImageFacts, error) {
	sizes, err := e.Layers.Sizes()
	if err != nil {
		return ImageFacts{}, err
	}
	f := ImageFacts{Image: img}
	if f.Names, err = e.Images.SameID(img.ID); err != nil {
		return f, err
	}
	s := &survey{e: e, sizes: sizes, platform: platform, users: map[digest.Digest]map[digest.Digest]bool{}}
	if err := s.fill(ctx, &f); err != nil {
		return f, err
	}
	return f, f.Damage
}

// survey gathers facts; users are the images, by id, that have a layer.
type survey struct {
	e        *Engine
	sizes    *layer.Sizes
	platform *ocispec.Platform
	users    map[digest.Digest]map[digest.Digest]bool
}

// fill reads manifests and sizes. What is wrong with an image is a fact about
// it: others are listed all the same.
func (s *survey) fill(ctx context.Context, f *ImageFacts) error {
	var err error
	if f.Manifests, err = s.e.Images.LoadAll(ctx, f.Desc, nil); err != nil {
		f.Damage = err
		return ctx.Err()
	}
	if f.Main, err = s.main(ctx, f); err != nil {
		f.Damage = err
		return ctx.Err()
	}
	f.layers = map[digest.Digest]int64{}
	for _, m := range f.Manifests {
		if err := s.measure(ctx, f, m); err != nil {
			f.Damage = err
			return ctx.Err()
		}
	}
	for diffID, size := range f.layers {
		f.Size += size
		if s.users[diffID] == nil {
			s.users[diffID] = map[digest.Digest]bool{}
		}
		s.users[diffID][f.ID] = true
	}
	return nil
}

// measure finds the sizes of one platform's layers.
func (s *survey) measure(ctx context.Context, f *ImageFacts, m image.Manifest) error {
	for i, desc := range m.Layers {
		diffID := m.Config.RootFS.DiffIDs[i]
		size, err := s.size(ctx, desc, diffID)
		if err != nil {
			return err
		}
		if m.Desc.Digest == f.Main.Desc.Digest {
			f.LayerSizes = append(f.LayerSizes, size)
		}
		if size > 0 {
			f.layers[diffID] = size
		}
	}
	return nil
}

// main chooses the platform to speak of.
func (s *survey) main(ctx context.Context, f *ImageFacts) (image.Manifest, error) {
	m, err := s.e.Images.Load(ctx, f.Desc, s.platform, nil)
	if err == nil && s.platform != nil {
		err = m.RunsOn(*s.platform)
	}
	if err == nil || s.platform != nil || len(f.Manifests) == 0 {
		return m, err
	}
	return f.Manifests[0], nil
}

func (s *survey) size(ctx context.Context, desc ocispec.Descriptor, diffID digest.Digest) (int64, error) {
	size, err := s.sizes.Of(ctx, desc, diffID)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrMismatch) {
		return -1, nil
	}
	return size, err
}

// share adds up what other images have as well.
func (s *survey) share(f *ImageFacts) {
	for diffID, size := range f.layers {
		if len(s.users[diffID]) > 1 {
			f.Shared += size
		}
	}
}

// Sweep frees what no name needs any more, as `rmi` does: not the cache, and
// not the unpacked layers of the images that stay.
func (e *Engine) Sweep(ctx context.Context) (store.Report, error) {
	// Layers are measured once. What belongs to containers and caches is not
	// looked at: to measure it can take long, and it does not go.
	return e.collectBesideImages(ctx, policy(), []store.Owner{e.Snapshots.Owner()})
}

// collectBesideImages collects what the policy does not keep, except for the
// unpacked layers of images: no record refers to those, as they can be made
// again, but the next container would have to wait for it.
func (e *Engine) collectBesideImages(ctx context.Context, p store.Policy, owners []store.Owner) (store.Report, error) {
	lease, err := e.Store.NewLease(ctx)
	if err != nil {
		return store.Report{}, err
	}
	// On a full disk there is no room for a lease, and the layers go as well.
	if err := e.leaseUnpacked(ctx, lease); err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return store.Report{}, errors.Join(err, lease.Close())
	}
	rep, err := e.collect(ctx, p, owners)
	return rep, errors.Join(err, lease.Close())
}

// leaseUnpacked adds the unpacked layers of all images to a lease.
func (e *Engine) leaseUnpacked(ctx context.Context, lease *store.Lease) error {
	images, err := e.Images.List()
	if err != nil {
		return err
	}
	for _, img := range images {
		manifests, err := e.Images.LoadAll(ctx, img.Desc, nil)
		if err != nil {
			continue // it is damaged, and has no layers that could be used
		}
		for _, m := range manifests {
			for _, id := range e.Layers.Unpacked(m.Config.RootFS.DiffIDs) {
				if err := lease.Add(snapshot.Ref(id)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
