package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/store"
)

// Docker's media types, which are understood like OCI's.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig       = "application/vnd.docker.container.image.v1+json"
)

// Bounds for documents that are read into memory.
const (
	maxDocument = 32 << 20
	maxNesting  = 8
)

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

// Platform is the platform that the config names.
func (m Manifest) Platform() ocispec.Platform { return platforms.Normalize(m.Config.Platform) }

// RunsOn is ErrNoPlatform unless the image is for a platform or one that it
// runs: an image that is no index is whatever it is, which may not be what
// somebody asked for by name.
func (m Manifest) RunsOn(p ocispec.Platform) error {
	if platforms.Only(p).Match(m.Platform()) {
		return nil
	}
	return fmt.Errorf("%w %s: the image is for %s", ErrNoPlatform, platforms.Format(p), platforms.Format(m.Platform()))
}

// document is a manifest or an index, whichever it turns out to be.
type document struct {
	MediaType   string               `json:"mediaType"`
	Config      ocispec.Descriptor   `json:"config"`
	Layers      []ocispec.Descriptor `json:"layers"`
	Manifests   []ocispec.Descriptor `json:"manifests"`
	Annotations map[string]string    `json:"annotations"`
	SchemaV1    []json.RawMessage    `json:"fsLayers"`
	desc        ocispec.Descriptor
}

func (d *document) isIndex() bool { return d.Manifests != nil }

// blobs are the config and the layers.
func (d *document) blobs() []ocispec.Descriptor {
	if d.isIndex() {
		return nil
	}
	return append([]ocispec.Descriptor{d.Config}, d.Layers...)
}

// parseDocument refuses what could be read in two ways (CVE-2021-41190), and
// descriptors that cannot be used.
func parseDocument(desc ocispec.Descriptor, data []byte) (*document, error) {
	d := &document{desc: desc}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("manifest %s: %w: %w", desc.Digest, ErrMalformed, err)
	}
	isManifest := d.Config.Digest != "" || d.Layers != nil
	switch {
	case d.SchemaV1 != nil:
		return nil, fmt.Errorf("manifest %s: %w: it has the schema 1 of old docker versions; push the image again with a current tool", desc.Digest, ErrMalformed)
	case isManifest == d.isIndex():
		return nil, fmt.Errorf("manifest %s: %w: it is not exactly one of manifest and index", desc.Digest, ErrMalformed)
	case desc.MediaType != "" && d.MediaType != "" && desc.MediaType != d.MediaType:
		return nil, fmt.Errorf("manifest %s: %w: it says it is %s, its descriptor says %s", desc.Digest, ErrMalformed, d.MediaType, desc.MediaType)
	}
	for _, child := range append(d.blobs(), d.Manifests...) {
		if err := checkDescriptor(child); err != nil {
			return nil, fmt.Errorf("manifest %s: %w: %w", desc.Digest, ErrMalformed, err)
		}
	}
	d.desc.MediaType = d.kind()
	d.desc.Size = int64(len(data))
	return d, nil
}

// kind is the media type, which old OCI documents leave to the descriptor.
func (d *document) kind() string {
	switch {
	case d.MediaType != "":
		return d.MediaType
	case d.desc.MediaType != "":
		return d.desc.MediaType
	case d.isIndex():
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

func checkDescriptor(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", desc.Digest, err)
	}
	if desc.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %s: only sha256 is supported", desc.Digest)
	}
	if desc.Size < 0 {
		return fmt.Errorf("descriptor %s has a negative size", desc.Digest)
	}
	return nil
}

// document reads a manifest or an index from the store, or brings it there.
func (s *Store) document(ctx context.Context, desc ocispec.Descriptor, src Source) (*document, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	fetch := func() ([]byte, error) { return src.Manifest(ctx, desc) }
	data, err := s.small(ctx, desc, src, fetch)
	if err != nil {
		return nil, err
	}
	return parseDocument(desc, data)
}

// small reads a document from the store, or by fetch, whose result is kept.
func (s *Store) small(ctx context.Context, desc ocispec.Descriptor, src Source, fetch func() ([]byte, error)) ([]byte, error) {
	data, err := s.readBlob(desc.Digest)
	if errors.Is(err, store.ErrMismatch) && src != nil {
		// The disk lost it; the source may have it still.
		err = errors.Join(store.ErrNotFound, s.blobs.DeleteBlob(desc.Digest))
	}
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return data, err
	}
	if src == nil {
		return nil, fmt.Errorf("%s is not in the store: %w", desc.Digest, ErrMissing)
	}
	if data, err = fetch(); err != nil {
		return nil, err
	}
	return data, s.putBytes(ctx, desc.Digest, data)
}

// readBlob reads a small blob, and holds it for this process.
func (s *Store) readBlob(d digest.Digest) ([]byte, error) {
	blob, err := s.hold(d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	if blob.Size() > maxDocument {
		return nil, fmt.Errorf("blob %s: %w: %d bytes are too much for a manifest or config", d, ErrMalformed, blob.Size())
	}
	data, err := io.ReadAll(blob)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	return data, nil
}

// hold opens a blob and keeps it from collection while this process lives.
func (s *Store) hold(d digest.Digest) (blob *store.Blob, err error) {
	err = s.blobs.Acquire(func() error {
		if blob, err = s.blobs.OpenBlob(d); err != nil {
			return err
		}
		return s.blobs.LeaseMade(store.BlobRef(d))
	})
	return blob, err
}

// putBytes keeps a document; its content must have the digest.
func (s *Store) putBytes(ctx context.Context, d digest.Digest, data []byte) error {
	w, err := s.blobs.NewBlob(ctx)
	if err != nil {
		return fmt.Errorf("store blob %s: %w", d, err)
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("store blob %s: %w", d, err)
	}
	if _, _, err := w.Commit(ctx, d, int64(len(data))); err != nil {
		return fmt.Errorf("store blob %s: %w", d, err)
	}
	return nil
}

// Load reads the manifest and config that an image holds for a platform; nil
// is the default platform. src supplies documents that are not in the store,
// and may be nil. An image that is not an index is taken as it is, as docker
// does: its config says what it is for.
func (s *Store) Load(ctx context.Context, desc ocispec.Descriptor, platform *ocispec.Platform, src Source) (Manifest, error) {
	want := s.platform
	if platform != nil {
		want = platforms.Normalize(*platform)
	}
	for range maxNesting {
		doc, err := s.document(ctx, desc, src)
		if err != nil {
			return Manifest{}, err
		}
		if !doc.isIndex() {
			return s.manifest(ctx, doc, src)
		}
		if desc, err = choose(doc, want); err != nil {
			return Manifest{}, err
		}
	}
	return Manifest{}, fmt.Errorf("index %s: %w: nested more than %d deep", desc.Digest, ErrMalformed, maxNesting)
}

// choose picks the image that suits a platform best: the same, else one that
// it can run (linux/arm/v7 runs v6).
func choose(doc *document, want ocispec.Platform) (ocispec.Descriptor, error) {
	matcher := platforms.Only(want)
	var best *ocispec.Descriptor
	for i, child := range doc.Manifests {
		if !isImage(child) || child.Platform != nil && !matcher.Match(*child.Platform) {
			continue
		}
		if best == nil || better(matcher, child.Platform, best.Platform) {
			best = &doc.Manifests[i]
		}
	}
	if best == nil {
		return ocispec.Descriptor{}, fmt.Errorf("%w %s: there is %s", ErrNoPlatform, platforms.Format(want), offered(doc))
	}
	return *best, nil
}

// isImage leaves out attestations and other artifacts within an index.
func isImage(desc ocispec.Descriptor) bool {
	if p := desc.Platform; p != nil && p.OS == "unknown" && p.Architecture == "unknown" {
		return false
	}
	switch desc.MediaType {
	case "", ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerManifest, dockerManifestList:
		return true
	}
	return false
}

// better orders candidates; one that names no platform is the last choice.
func better(m platforms.MatchComparer, a, b *ocispec.Platform) bool {
	if a == nil || b == nil {
		return a != nil
	}
	return m.Less(*a, *b)
}

// offered lists an index's platforms for a message.
func offered(doc *document) string {
	var names []string
	for _, child := range doc.Manifests {
		if isImage(child) && child.Platform != nil {
			names = append(names, platforms.Format(platforms.Normalize(*child.Platform)))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// manifest reads the config of a manifest.
func (s *Store) manifest(ctx context.Context, doc *document, src Source) (Manifest, error) {
	raw, err := s.small(ctx, doc.Config, src, func() ([]byte, error) { return src.Config(ctx, doc.Config) })
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{Desc: doc.desc, Layers: doc.Layers, RawConfig: raw, ConfigDesc: doc.Config, Annotations: doc.Annotations}
	m.Desc.Annotations = nil
	if err := json.Unmarshal(raw, &m.Config); err != nil {
		return m, fmt.Errorf("image config %s: %w: %w", doc.Config.Digest, ErrMalformed, err)
	}
	if have, want := len(m.Config.RootFS.DiffIDs), len(m.Layers); have != want {
		return m, fmt.Errorf("image %s: %w: %d layers, but %d diff ids in its config", doc.desc.Digest, ErrMalformed, want, have)
	}
	return m, nil
}
