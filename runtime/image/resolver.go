package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

// ResolverOptions configures a MetaResolver.
type ResolverOptions struct {
	// Pull asks the registry even for what is known locally.
	Pull bool
	// Offline never asks a registry.
	Offline bool
	// Layouts are OCI layout directories by their store id.
	Layouts map[string]string
	// Static answers before anything else, if it knows the reference.
	Static StaticResolver
}

// MetaResolver answers what an image reference stands for, and with which
// config: the image store first, then what was resolved before, then the
// registry; with Pull, the registry first. What the registry says is recorded,
// so that the next build needs no network. It implements
// llb.ImageMetaResolver.
type MetaResolver struct {
	images *Store
	opts   ResolverOptions
}

// MetaResolver returns a resolver over the image store.
func (s *Store) MetaResolver(opts ResolverOptions) *MetaResolver {
	return &MetaResolver{images: s, opts: opts}
}

var _ sourceresolver.ImageMetaResolver = (*MetaResolver)(nil)

// ResolveImageConfig implements llb.ImageMetaResolver. The digest is that of
// the whole image, an index where there is one; the config is the platform's.
// The error does not name the reference: who asks for it does.
func (m *MetaResolver) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if found, ok, err := m.opts.Static.answer(ref, opt); ok || err != nil {
		return ref, found.digest, found.config, err
	}
	named, err := registry.ParseReference(ref)
	if err != nil {
		return "", "", nil, err
	}
	q := query{named: named, platform: m.images.platform, pull: m.opts.Pull}
	if o := opt.ImageOpt; o != nil {
		q.pull = q.pull || o.ResolveMode == pb.AttrImageResolveModeForcePull
		if o.Platform != nil {
			q.platform = platforms.Normalize(*o.Platform)
		}
	}
	var found Manifest
	var root digest.Digest
	if o := opt.OCILayoutOpt; o != nil {
		root, found, err = m.layout(ctx, q, o)
	} else {
		root, found, err = m.image(ctx, q)
	}
	if err != nil {
		return "", "", nil, registry.Reason(err)
	}
	return ref, root, found.RawConfig, nil
}

// query is one question.
type query struct {
	named    reference.Named
	platform ocispec.Platform
	pull     bool
}

func (m *MetaResolver) image(ctx context.Context, q query) (digest.Digest, Manifest, error) {
	digested, pinned := q.named.(reference.Digested)
	if pinned || !q.pull {
		root, found, err := m.local(ctx, q)
		if err == nil || !retryable(err) {
			return root, found, err
		}
	}
	if m.opts.Offline {
		return "", Manifest{}, fmt.Errorf("it is not in the store, and the network is not to be used: %w", ErrMissing)
	}
	var desc ocispec.Descriptor
	var err error
	if pinned {
		desc = ocispec.Descriptor{Digest: digested.Digest()}
	} else if desc, err = m.ask(ctx, q.named); err != nil {
		return "", Manifest{}, err
	}
	found, err := m.images.Load(ctx, desc, &q.platform, m.images.RegistrySource(q.named))
	if err != nil {
		return "", Manifest{}, err
	}
	return desc.Digest, found, m.record(ctx, q.named, desc, found)
}

// retryable tells errors of the local answer that a registry may heal.
func retryable(err error) bool {
	return errors.Is(err, ErrMissing) || errors.Is(err, ErrNoPlatform) || errors.Is(err, ErrNotFound) || errors.Is(err, store.ErrMismatch)
}

// local answers without asking what a tag stands for. Platforms of a known
// index that were not fetched may come from the registry, by digest.
func (m *MetaResolver) local(ctx context.Context, q query) (digest.Digest, Manifest, error) {
	desc, err := m.known(q.named)
	if err != nil {
		return "", Manifest{}, err
	}
	var src Source
	if !m.opts.Offline {
		src = lazySource{m.images.RegistrySource(q.named), m.images, desc.Digest}
	}
	found, err := m.images.Load(ctx, desc, &q.platform, src)
	if err != nil {
		return "", Manifest{}, err
	}
	if _, pinned := q.named.(reference.Digested); !pinned && !platforms.Only(q.platform).Match(found.Platform()) {
		return "", Manifest{}, fmt.Errorf("%w %s: the image in the store is for %s", ErrNoPlatform, platforms.Format(q.platform), platforms.Format(found.Platform()))
	}
	return desc.Digest, found, nil
}

// known finds what a reference stands for as far as this store knows.
func (m *MetaResolver) known(named reference.Named) (ocispec.Descriptor, error) {
	m.images.blobs.TouchRecord(ResolutionsBucket, named.String())
	if digested, ok := named.(reference.Digested); ok {
		return ocispec.Descriptor{Digest: digested.Digest()}, nil
	}
	if img, ok, err := m.images.lookup(named.String()); ok || err != nil {
		return img.Desc, err
	}
	var rec record
	ok, err := m.images.blobs.GetRecord(ResolutionsBucket, named.String(), &rec)
	if err == nil && !ok {
		err = ErrNotFound
	}
	return rec.Desc, err
}

// lazySource is a registry that is not asked for the root: whether that is
// there decides between a local answer and a question to the registry.
type lazySource struct {
	Source
	images *Store
	root   digest.Digest
}

// Manifest implements Source.
func (l lazySource) Manifest(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Digest == l.root {
		return nil, fmt.Errorf("%s is not in the store: %w", desc.Digest, ErrMissing)
	}
	return l.Source.Manifest(ctx, desc)
}

// ask resolves a tag at the registry, once for all who ask at the same time.
func (m *MetaResolver) ask(ctx context.Context, named reference.Named) (ocispec.Descriptor, error) {
	// The question outlives the asker that is cancelled: others wait for it.
	result := m.images.once.DoChan(named.String(), func() (any, error) {
		return m.images.registry.Resolve(context.WithoutCancel(ctx), named)
	})
	select {
	case <-ctx.Done():
		return ocispec.Descriptor{}, context.Cause(ctx)
	case r := <-result:
		desc, _ := r.Val.(ocispec.Descriptor)
		return desc, r.Err
	}
}

// record remembers a resolution, and keeps the documents that it took.
func (m *MetaResolver) record(ctx context.Context, named reference.Named, desc ocispec.Descriptor, found Manifest) error {
	root, err := m.images.document(ctx, desc, nil)
	if err != nil {
		return err
	}
	rec := record{Desc: plainDescriptor(root.desc), ID: found.ConfigDesc.Digest, Created: time.Now().UTC()}
	refs := []store.Ref{store.BlobRef(desc.Digest), store.BlobRef(found.Desc.Digest), store.BlobRef(found.ConfigDesc.Digest)}
	if err := m.images.blobs.PutRecord(ResolutionsBucket, named.String(), rec, refs...); err != nil {
		return fmt.Errorf("record resolution: %w", err)
	}
	return nil
}

// layout answers from an OCI layout directory.
func (m *MetaResolver) layout(ctx context.Context, q query, opt *sourceresolver.ResolveOCILayoutOpt) (digest.Digest, Manifest, error) {
	dir, ok := m.opts.Layouts[opt.Store.StoreID]
	if !ok {
		return "", Manifest{}, fmt.Errorf("no OCI layout is given for %q", opt.Store.StoreID)
	}
	if opt.Platform != nil {
		q.platform = platforms.Normalize(*opt.Platform)
	}
	desc := ocispec.Descriptor{}
	if digested, ok := q.named.(reference.Digested); ok {
		desc.Digest = digested.Digest()
	} else {
		var err error
		if desc, err = LayoutDigest(dir, q.named.(reference.Tagged).Tag()); err != nil {
			return "", Manifest{}, err
		}
	}
	found, err := m.images.Load(ctx, desc, &q.platform, LayoutSource(dir))
	return desc.Digest, found, err
}
