package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

// Bounds for archives: what a hostile one can make us hold in memory.
const (
	maxEntries = 100_000
	maxLinks   = 16
)

// archive is what was read of a tar stream. Paths in it are names in a map:
// nothing is ever written at one.
//
// A docker archive may name its layers before or after the manifest that tells
// what they are, so every file becomes a blob at once, in one pass; what no
// image refers to falls to the next collection.
type archive struct {
	store  *Store
	files  map[string]archived
	links  map[string]string // symbolic and hard links, to clean paths
	index  []byte            // index.json
	docker []byte            // manifest.json
}

type archived struct {
	digest digest.Digest
	size   int64
}

// dockerEntry is an item of a docker archive's manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Import reads the images of a tar stream, which may be compressed, into the
// store: an OCI layout, or a docker archive as docker, podman, skopeo and
// buildkit write it. Their names are returned, not recorded.
func (s *Store) Import(ctx context.Context, r io.Reader) ([]Imported, error) {
	images, err := s.readArchive(ctx, r)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, tar.ErrHeader):
		return nil, fmt.Errorf("read image archive: it is cut short, or no archive: save or copy it again: %w", err)
	case err != nil:
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	return images, nil
}

func (s *Store) readArchive(ctx context.Context, r io.Reader) ([]Imported, error) {
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return nil, err
	}
	a := &archive{store: s, files: map[string]archived{}, links: map[string]string{}}
	err = a.read(ctx, tar.NewReader(plain))
	if closeErr := plain.Close(); !errors.Is(err, closeErr) { // gzip says again what it has read
		err = errors.Join(err, closeErr)
	}
	if err != nil {
		return nil, err
	}
	return a.images(ctx)
}

func (a *archive) read(ctx context.Context, tr *tar.Reader) error {
	for range maxEntries {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if err := a.entry(ctx, h, tr); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	return fmt.Errorf("%w: more than %d files", ErrMalformed, maxEntries)
}

// entry takes one file. Devices, directories and the like mean nothing here.
func (a *archive) entry(ctx context.Context, h *tar.Header, r io.Reader) error {
	name := clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		return a.file(ctx, name, h, r)
	case tar.TypeSymlink:
		a.links[name] = clean(path.Join(path.Dir(name), h.Linkname))
	case tar.TypeLink:
		a.links[name] = clean(h.Linkname)
	case tar.TypeGNUSparse:
		return fmt.Errorf("%w: sparse files do not belong into an image archive", ErrMalformed)
	}
	return nil
}

// clean makes a path relative to the archive's root; ".." stops there.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (a *archive) file(ctx context.Context, name string, h *tar.Header, r io.Reader) (err error) {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%w: sparse files do not belong into an image archive", ErrMalformed)
		}
	}
	switch name {
	case ocispec.ImageIndexFile:
		return singleDocument(&a.index, r)
	case "manifest.json":
		return singleDocument(&a.docker, r)
	case ocispec.ImageLayoutFile, "repositories":
		return nil
	}
	switch path.Base(name) {
	case "VERSION", "json":
		return nil // of docker's archives before version 1.10
	}
	want, err := blobDigest(name)
	if err != nil {
		return err
	}
	d, size, err := a.keep(ctx, r, want)
	a.files[name] = archived{d, size}
	return err
}

// singleDocument reads a document of which an archive has one: of two, each reader
// would believe another.
func singleDocument(into *[]byte, r io.Reader) (err error) {
	if *into != nil {
		return fmt.Errorf("%w: it is there twice", ErrMalformed)
	}
	*into, err = readAtMost(r, maxDocument)
	return err
}

// blobDigest is the digest that an OCI layout's path promises; "" elsewhere.
func blobDigest(name string) (digest.Digest, error) {
	rest, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/")
	if !ok {
		return "", nil
	}
	algorithm, hex, _ := strings.Cut(rest, "/")
	desc := ocispec.Descriptor{Digest: digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)}
	if err := checkDescriptor(desc); err != nil {
		return "", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return desc.Digest, nil
}

// keep makes a blob of a file.
func (a *archive) keep(ctx context.Context, r io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	w, err := a.store.blobs.NewBlob(ctx)
	if err != nil {
		return "", 0, fmt.Errorf("store blob: %w", err)
	}
	defer w.Close()
	if _, err := io.Copy(w, r); err != nil {
		return "", 0, fmt.Errorf("store blob: %w", err)
	}
	d, size, err := w.Commit(ctx, want, -1)
	if errors.Is(err, store.ErrMismatch) {
		return "", 0, fmt.Errorf("%w: the archive is damaged: %w", ErrMalformed, err)
	}
	if err != nil {
		return "", 0, fmt.Errorf("store blob: %w", err)
	}
	return d, size, nil
}

// images makes images of what was read. An archive that is both, as docker
// writes it since version 25, is taken as the OCI layout, which knows more.
func (a *archive) images(ctx context.Context) ([]Imported, error) {
	entries, err := a.dockerEntries()
	if err != nil {
		return nil, err
	}
	switch {
	case a.index != nil:
		return a.layout(ctx, entries)
	case a.docker != nil:
		return a.dockerImages(ctx, entries)
	}
	return nil, fmt.Errorf("%w: it has neither index.json (OCI layout) nor manifest.json (docker archive); to make an image of a root file system's tar, use `strata import`", ErrMalformed)
}

func (a *archive) dockerEntries() ([]dockerEntry, error) {
	if a.docker == nil {
		return nil, nil
	}
	var entries []dockerEntry
	if err := json.Unmarshal(a.docker, &entries); err != nil {
		return nil, fmt.Errorf("%w: manifest.json: %w", ErrMalformed, err)
	}
	return entries, nil
}

// layout imports the index. Images without a name there get those that
// manifest.json gives to the same config.
func (a *archive) layout(ctx context.Context, entries []dockerEntry) ([]Imported, error) {
	index, err := parseIndex(a.index)
	if err != nil {
		return nil, err
	}
	images, err := a.store.importIndex(ctx, index, nil)
	for i, img := range images {
		if len(img.Names) > 0 {
			continue
		}
		doc, err := a.store.document(ctx, img.Desc, nil)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if file, ok := a.find(entry.Config); ok && file.digest == doc.Config.Digest {
				images[i].Names = append(images[i].Names, familiar(entry.RepoTags)...)
			}
		}
	}
	return images, err
}

func familiar(tags []string) []string {
	var names []string
	for _, tag := range tags {
		if named, err := registry.ParseReference(tag); err == nil {
			names = append(names, reference.FamiliarString(named))
		}
	}
	return names
}

// find looks a path up through its links.
func (a *archive) find(name string) (archived, bool) {
	name = clean(name)
	for range maxLinks {
		if file, ok := a.files[name]; ok {
			return file, true
		}
		target, ok := a.links[name]
		if !ok {
			return archived{}, false
		}
		name = target
	}
	return archived{}, false
}

func (a *archive) dockerImages(ctx context.Context, entries []dockerEntry) ([]Imported, error) {
	var images []Imported
	for i, entry := range entries {
		desc, err := a.dockerImage(ctx, entry)
		if err != nil {
			return nil, fmt.Errorf("image %d of manifest.json: %w", i+1, err)
		}
		names := familiar(entry.RepoTags)
		at := slices.IndexFunc(images, func(have Imported) bool { return have.Desc.Digest == desc.Digest })
		if at < 0 {
			images = append(images, Imported{Names: names, Desc: desc})
		} else {
			images[at].Names = append(images[at].Names, names...)
		}
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("there is no image in it: %w", ErrMalformed)
	}
	return images, nil
}

// dockerImage makes an OCI manifest for an image of a docker archive, which
// has none. Layers stay as they are, mostly uncompressed.
func (a *archive) dockerImage(ctx context.Context, entry dockerEntry) (ocispec.Descriptor, error) {
	config, ok := a.find(entry.Config)
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("%w: its config %q is not in the archive", ErrMalformed, entry.Config)
	}
	raw, err := a.store.readBlob(config.digest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var img ocispec.Image
	if err := json.Unmarshal(raw, &img); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("%w: its config %q: %w", ErrMalformed, entry.Config, err)
	}
	if len(img.RootFS.DiffIDs) != len(entry.Layers) {
		return ocispec.Descriptor{}, fmt.Errorf("%w: it has %d layers, but %d diff ids in its config", ErrMalformed, len(entry.Layers), len(img.RootFS.DiffIDs))
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config.digest, Size: config.size},
		Layers:    []ocispec.Descriptor{},
	}
	for i, name := range entry.Layers {
		desc, err := a.dockerLayer(name, img.RootFS.DiffIDs[i])
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		manifest.Layers = append(manifest.Layers, desc)
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write manifest: %w", err)
	}
	desc := ocispec.Descriptor{MediaType: manifest.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, a.store.putBytes(ctx, desc.Digest, data)
}

// dockerLayer describes a layer file. An uncompressed one must be what the
// config promises; a compressed one is checked when it is unpacked.
func (a *archive) dockerLayer(name string, diffID digest.Digest) (ocispec.Descriptor, error) {
	file, ok := a.find(name)
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("%w: its layer %q is not in the archive", ErrMalformed, name)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: file.digest, Size: file.size}
	if file.digest == diffID {
		return desc, nil
	}
	kind, err := a.compression(file.digest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if kind == "" {
		return ocispec.Descriptor{}, fmt.Errorf("%w: its layer %q is %s, its config says %s", ErrMalformed, name, file.digest, diffID)
	}
	desc.MediaType = kind
	return desc, nil
}

// compression tells the media type of a compressed layer by its first bytes.
func (a *archive) compression(d digest.Digest) (string, error) {
	blob, err := a.store.hold(d)
	if err != nil {
		return "", fmt.Errorf("read layer: %w", err)
	}
	defer blob.Close()
	var head [4]byte
	n, err := blob.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read layer: %w", err)
	}
	switch {
	case bytes.HasPrefix(head[:n], []byte{0x1f, 0x8b}):
		return ocispec.MediaTypeImageLayerGzip, nil
	case bytes.HasPrefix(head[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return ocispec.MediaTypeImageLayerZstd, nil
	}
	return "", nil
}
