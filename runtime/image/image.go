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

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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

// Options says what a Store works on.
type Options struct {
	Store    *store.Store
	Layers   *layer.Store
	Registry Registry
	// Platform is what is taken where nobody asks for one; the zero value is
	// the machine's own.
	Platform ocispec.Platform
}

// Store is the image store. It is safe for concurrent use, also by several
// processes.
type Store struct {
	opts Options
}

// New returns the image store over a store.
func New(opts Options) *Store { return &Store{opts: opts} }

// Image is one name.
type Image struct {
	// Name is the familiar name with tag ("debian:12", "quay.io/a/b:latest"),
	// or "" for an image that is known by its digest only.
	Name string
	// Desc is the manifest or the index.
	Desc ocispec.Descriptor
	// ID is the config's digest for a single image, and the index's own for
	// several platforms.
	ID      digest.Digest
	Created time.Time
}

// Manifest is one platform's image, loaded and verified.
type Manifest struct {
	Desc   ocispec.Descriptor
	Layers []ocispec.Descriptor
	// Config is the parsed image config; RawConfig are its bytes.
	Config    ocispec.Image
	RawConfig []byte
	// ConfigDesc is the config's descriptor.
	ConfigDesc  ocispec.Descriptor
	Annotations map[string]string
}

var errUnimplemented = errors.New("not yet written")

// Put gives a manifest a name; an empty name keeps it under its digest. The
// name is normalised: "debian" is docker.io/library/debian:latest.
func (s *Store) Put(ctx context.Context, name string, desc ocispec.Descriptor) (Image, error) {
	return Image{}, errUnimplemented
}

// Get returns the image of a name.
func (s *Store) Get(name string) (Image, error) { return Image{}, errUnimplemented }

// List returns all images, sorted by name.
func (s *Store) List() ([]Image, error) { return nil, errUnimplemented }

// Delete removes a name, or with an id all of its names. It returns the names
// that went; content is left to collection.
func (s *Store) Delete(ctx context.Context, ref string) ([]string, error) {
	return nil, errUnimplemented
}

// Resolve finds an image by what users write: name[:tag][@digest], or an image
// id of which a unique prefix is enough.
func (s *Store) Resolve(ctx context.Context, ref string) (Image, error) {
	return Image{}, errUnimplemented
}

// Load reads the manifest and config that an image holds for a platform. src
// supplies manifests that are not in the store; nil means none.
func (s *Store) Load(ctx context.Context, desc ocispec.Descriptor, platform *ocispec.Platform, src Source) (Manifest, error) {
	return Manifest{}, errUnimplemented
}

// Source supplies blobs that the store lacks.
type Source interface {
	// Open returns a blob's bytes from offset on.
	Open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	// Bytes returns a manifest or a config, verified.
	Bytes(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	// String names the source in messages.
	String() string
}

// RegistrySource supplies blobs from a repository.
func (s *Store) RegistrySource(ref reference.Named) Source { return nil }

// LayoutSource supplies blobs from an OCI layout directory.
func LayoutSource(dir string) Source { return nil }

// LayoutDigest finds what a tag or full name stands for in an OCI layout
// directory; an empty tag means the only image, or latest.
func LayoutDigest(dir, tag string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errUnimplemented
}

// UnpackRequest says what to unpack.
type UnpackRequest struct {
	Manifest Manifest
	// Source supplies the layers that the store lacks; nil means none.
	Source Source
	// Progress is called from several goroutines with the bytes of a layer's
	// blob that were read. May be nil.
	Progress func(desc ocispec.Descriptor, offset int64)
	// Jobs bounds the parallel layers; 0 means 3.
	Jobs int
}

// Unpack makes an image's layers and returns their ids, bottom first. Layers
// that are there already cost a look-up; blobs that are not in the store are
// unpacked while they are downloaded and kept.
func (s *Store) Unpack(ctx context.Context, req UnpackRequest) ([]string, error) {
	return nil, errUnimplemented
}

// PullRequest says what to pull.
type PullRequest struct {
	Ref reference.Named
	// Platforms to pull; none means the default platform. AllPlatforms takes
	// whatever the index holds.
	Platforms    []ocispec.Platform
	AllPlatforms bool
	Progress     func(desc ocispec.Descriptor, offset int64)
	Jobs         int
}

// Pull fetches an image with its layers and gives it its name.
func (s *Store) Pull(ctx context.Context, req PullRequest) (Image, error) {
	return Image{}, errUnimplemented
}

// Push uploads an image of the store under a name. Blobs are mounted from
// repositories of the same registry that this store has seen them in.
func (s *Store) Push(ctx context.Context, req PushRequest) error { return errUnimplemented }

// PushRequest says what to push.
type PushRequest struct {
	// Name is the target.
	Name string
	// Desc is what to push.
	Desc     ocispec.Descriptor
	Progress func(registry.Update)
	Jobs     int
}

// Imported is one image of an archive.
type Imported struct {
	// Names are the full names that the archive gives it; may be none.
	Names []string
	Desc  ocispec.Descriptor
}

// Import reads an OCI layout or a docker archive from a tar stream, which may
// be compressed, into the store. Names are returned, not recorded.
func (s *Store) Import(ctx context.Context, r io.Reader) ([]Imported, error) {
	return nil, errUnimplemented
}

// ImportLayout reads an OCI layout directory into the store.
func (s *Store) ImportLayout(ctx context.Context, dir string) ([]Imported, error) {
	return nil, errUnimplemented
}
