// Package image keeps images: names for manifests in the store, and the ways
// by which manifests come there.
//
//	registry, OCI layout, docker archive ──▶ blobs + name record ──▶ layers
//
// An image is a name for a manifest or an index. Manifests, configs and layers
// are blobs of the store; the name is a record that refers to each of them, so
// that collection keeps what a name needs and nothing else. A manifest without
// a name can be kept too, under its digest.
//
// Layers are unpacked by package layer, each for itself and in parallel; a
// layer whose blob is not in the store is unpacked while it is downloaded.
package image

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/singleflight"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound means that no image has that name or id.
	ErrNotFound = errors.New("no such image")
	// ErrAmbiguous means that several images have an id with that prefix.
	ErrAmbiguous = errors.New("ambiguous image id")
	// ErrNoPlatform means that an index holds no image for a platform.
	ErrNoPlatform = errors.New("no image for the platform")
	// ErrMissing means that content is neither in the store nor at the source.
	ErrMissing = errors.New("content is not there")
	// ErrMalformed means that a manifest, config or archive is not what the
	// specification says.
	ErrMalformed = errors.New("malformed image")
)

// Buckets of the store's records. Images are roots of collection; resolutions
// are a cache.
const (
	Bucket            = "images"
	ResolutionsBucket = "resolutions"
)

// Registry is what the image store asks of a registry client;
// *registry.Client implements it.
type Registry interface {
	Resolve(ctx context.Context, ref reference.Named) (ocispec.Descriptor, error)
	Manifest(ctx context.Context, ref reference.Named, desc ocispec.Descriptor) ([]byte, error)
	Bytes(ctx context.Context, ref reference.Named, desc ocispec.Descriptor) ([]byte, error)
	Open(ctx context.Context, ref reference.Named, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	Push(ctx context.Context, req registry.PushRequest) error
}

// Layers is what the image store asks of the layer store; *layer.Store
// implements it.
type Layers interface {
	Import(ctx context.Context, req layer.ImportRequest) (id string, err error)
}

// Options says what a Store works on.
type Options struct {
	Store    *store.Store
	Layers   Layers
	Registry Registry
	// Platform is what is taken where nobody asks for one; the zero value is
	// the machine's own.
	Platform ocispec.Platform
}

// Store is the image store. It is safe for concurrent use, also by several
// processes.
type Store struct {
	blobs    *store.Store
	layers   Layers
	registry Registry
	platform ocispec.Platform
	once     singleflight.Group // resolutions
}

// New returns the image store over a store.
func New(opts Options) *Store {
	platform := opts.Platform
	if platform.OS == "" {
		platform = platforms.DefaultSpec()
	}
	return &Store{blobs: opts.Store, layers: opts.Layers, registry: opts.Registry, platform: platforms.Normalize(platform)}
}

// Image is one name.
type Image struct {
	// Name is the familiar name with tag ("debian:12", "quay.io/a/b:latest"),
	// or "" for an image that is known by its digest only.
	Name string
	// Desc is the manifest or the index.
	Desc ocispec.Descriptor
	// ID is the config's digest for a single image, and the index's own for
	// several platforms.
	ID digest.Digest
	// Created is when the name was given.
	Created time.Time
}
