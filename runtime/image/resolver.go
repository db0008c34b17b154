package image

import (
	"context"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	digest "github.com/opencontainers/go-digest"
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

// MetaResolver answers what an image reference stands for: the image store
// first, then what was resolved before, then the registry; with Pull, the
// registry first. What the registry says is recorded, so that the next build
// needs no network. It implements llb.ImageMetaResolver.
type MetaResolver struct {
	images *Store
	opts   ResolverOptions
}

// MetaResolver returns a resolver over the image store.
func (s *Store) MetaResolver(opts ResolverOptions) *MetaResolver {
	return &MetaResolver{images: s, opts: opts}
}

var _ sourceresolver.ImageMetaResolver = (*MetaResolver)(nil)

// ResolveImageConfig implements llb.ImageMetaResolver.
func (m *MetaResolver) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return "", "", nil, errUnimplemented
}

// StaticResolver answers from a map of image references to image configs, and
// needs no network: for plans, tests and machines without one.
type StaticResolver map[string][]byte

// ParseStatic reads a JSON object of image references to OCI image configs.
func ParseStatic(data []byte) (StaticResolver, error) { return nil, errUnimplemented }

// ResolveImageConfig implements llb.ImageMetaResolver.
func (r StaticResolver) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return "", "", nil, errUnimplemented
}
