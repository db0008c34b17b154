package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/strata-build/strata/runtime/registry"
)

// PullRequest says what to pull.
type PullRequest struct {
	Ref reference.Named
	// Platforms to pull; none means the default platform. AllPlatforms takes
	// whatever the index holds.
	Platforms    []ocispec.Platform
	AllPlatforms bool
	// Unpack makes the layers of the pulled platforms while their blobs are
	// fetched; without it that is done when they are first used.
	Unpack bool
	// Progress is called from several goroutines. May be nil.
	Progress func(desc ocispec.Descriptor, offset int64)
	// Jobs bounds the parallel layers; 0 means 3.
	Jobs int
}

// Pull fetches an image with its layers and gives it its name.
func (s *Store) Pull(ctx context.Context, req PullRequest) (Image, error) {
	desc, err := s.registry.Resolve(ctx, req.Ref)
	if err != nil {
		return Image{}, err
	}
	src := s.RegistrySource(req.Ref)
	manifests, err := s.wanted(ctx, desc, req, src)
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", reference.FamiliarString(req.Ref), err)
	}
	for _, m := range manifests {
		if err := s.pullLayers(ctx, m, req, src); err != nil {
			return Image{}, fmt.Errorf("pull %s: %w", reference.FamiliarString(req.Ref), err)
		}
	}
	return s.Put(ctx, req.Ref.String(), desc)
}

// wanted loads the manifests of the platforms that are asked for.
func (s *Store) wanted(ctx context.Context, desc ocispec.Descriptor, req PullRequest, src Source) ([]Manifest, error) {
	if req.AllPlatforms {
		return s.LoadAll(ctx, desc, src)
	}
	list := req.Platforms
	if len(list) == 0 {
		list = []ocispec.Platform{s.platform}
	}
	var found []Manifest
	for _, p := range list {
		m, err := s.Load(ctx, desc, &p, src)
		if err != nil {
			return nil, err
		}
		if len(req.Platforms) > 0 {
			if err := m.RunsOn(p); err != nil {
				return nil, err
			}
		}
		found = append(found, m)
	}
	return found, nil
}

// LoadAll loads the manifests of all platforms of an image. Without a source,
// platforms that were not fetched are left out.
func (s *Store) LoadAll(ctx context.Context, desc ocispec.Descriptor, src Source) ([]Manifest, error) {
	return s.loadAll(ctx, desc, src, 0)
}

func (s *Store) loadAll(ctx context.Context, desc ocispec.Descriptor, src Source, depth int) ([]Manifest, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("index %s: %w: nested more than %d deep", desc.Digest, ErrMalformed, maxNesting)
	}
	doc, err := s.document(ctx, desc, src)
	if err != nil {
		return nil, err
	}
	if !doc.isIndex() {
		m, err := s.manifest(ctx, doc, src)
		m.Desc.Platform = desc.Platform
		return []Manifest{m}, err
	}
	var all []Manifest
	for _, child := range doc.Manifests {
		if !isImage(child) {
			continue
		}
		below, err := s.loadAll(ctx, child, src, depth+1)
		if src == nil && errors.Is(err, ErrMissing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

func (s *Store) pullLayers(ctx context.Context, m Manifest, req PullRequest, src Source) error {
	if req.Unpack {
		_, err := s.Unpack(ctx, UnpackRequest{Manifest: m, Source: src, Progress: req.Progress, Jobs: req.Jobs})
		if err != nil {
			return err
		}
	}
	// A layer that was unpacked before may lack its blob.
	jobs, jctx := errgroup.WithContext(ctx)
	jobs.SetLimit(jobLimit(req.Jobs))
	for _, desc := range m.Layers {
		jobs.Go(func() error {
			return s.fetch(jctx, desc, layerRequest{src: src, progress: req.Progress})
		})
	}
	return jobs.Wait()
}

// PushRequest says what to push.
type PushRequest struct {
	// Name is the target. Without a tag it is :latest, unless ByDigest.
	Name string
	// ByDigest pushes without setting a tag.
	ByDigest bool
	// Desc is a manifest or an index of the store.
	Desc     ocispec.Descriptor
	Progress func(registry.Update)
	Jobs     int
}

// Push uploads an image of the store under a name. Blobs are mounted from
// repositories of the same registry that this store has seen them in.
func (s *Store) Push(ctx context.Context, req PushRequest) error {
	named, err := parseName(req.Name)
	if err != nil {
		return err
	}
	if req.ByDigest {
		named = reference.TrimNamed(named)
	}
	if err := s.complete(ctx, req.Desc); err != nil {
		return fmt.Errorf("push %s: %w", reference.FamiliarString(named), err)
	}
	sources, err := s.repositories(ctx, named)
	if err != nil {
		return fmt.Errorf("push %s: %w", reference.FamiliarString(named), err)
	}
	return s.registry.Push(ctx, registry.PushRequest{
		Ref: named, Desc: req.Desc, Progress: req.Progress, Jobs: req.Jobs,
		Open:    func(d digest.Digest) (registry.Blob, error) { return s.hold(d) },
		Sources: func(d digest.Digest) []reference.Named { return sources[d] },
	})
}

// complete makes sure that all of an index is there: a registry refuses one
// whose parts it lacks.
func (s *Store) complete(ctx context.Context, desc ocispec.Descriptor) error {
	doc, err := s.document(ctx, desc, nil)
	if err != nil {
		return err
	}
	for _, blob := range doc.blobs() {
		if _, ok := s.blobs.HasBlob(blob.Digest); !ok {
			return fmt.Errorf("its content %s is not in the store: pull it again: %w", blob.Digest, ErrMissing)
		}
	}
	for _, child := range doc.Manifests {
		if _, ok := s.blobs.HasBlob(child.Digest); !ok {
			name := child.Digest.String()
			if child.Platform != nil {
				name = platforms.Format(*child.Platform)
			}
			return fmt.Errorf("the image for %s was not fetched: pull all platforms first (--platform all), or push a single one (--platform): %w", name, ErrMissing)
		}
		if err := s.complete(ctx, child); err != nil {
			return err
		}
	}
	return nil
}

// Complete reports whether all platforms of an image were fetched.
func (s *Store) Complete(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	err := s.complete(ctx, desc)
	if errors.Is(err, ErrMissing) {
		return false, nil
	}
	return err == nil, err
}

// repositories maps blobs to the repositories of a registry that this store
// knows to have had them, by the names and resolutions that refer to them.
func (s *Store) repositories(ctx context.Context, target reference.Named) (map[digest.Digest][]reference.Named, error) {
	host := reference.Domain(target)
	found := map[digest.Digest][]reference.Named{}
	for _, bucket := range []string{Bucket, ResolutionsBucket} {
		for entry, err := range s.blobs.Records(bucket) {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", bucket, err)
			}
			named, err := reference.ParseNormalizedNamed(entry.Key)
			if err != nil || nameless(entry.Key) || reference.Domain(named) != host || named.Name() == target.Name() {
				continue
			}
			var rec record
			if err := entry.Decode(&rec); err != nil {
				return nil, fmt.Errorf("list %s: %s: %w", bucket, entry.Key, err)
			}
			manifests, err := s.LoadAll(ctx, rec.Desc, nil)
			if err != nil {
				continue // its content is gone: no repository to mount from
			}
			addRepository(found, named, manifests)
		}
	}
	return found, nil
}

func addRepository(found map[digest.Digest][]reference.Named, named reference.Named, manifests []Manifest) {
	for _, m := range manifests {
		for _, desc := range append(m.Layers[:len(m.Layers):len(m.Layers)], m.ConfigDesc) {
			if have := found[desc.Digest]; len(have) < 3 {
				found[desc.Digest] = append(have, named)
			}
		}
	}
}
