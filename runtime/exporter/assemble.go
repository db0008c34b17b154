package exporter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

// Docker's media types.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig       = "application/vnd.docker.container.image.v1+json"
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// assembled is an image as blobs in the store.
type assembled struct {
	desc ocispec.Descriptor
	// manifests are the platforms' images, in the order of the index.
	manifests []assembledManifest
}

type assembledManifest struct {
	desc     ocispec.Descriptor
	manifest ocispec.Manifest
}

func (a *assembled) configDigest() digest.Digest {
	if len(a.manifests) != 1 {
		return ""
	}
	return a.manifests[0].manifest.Config.Digest
}

// blobs lists everything the image consists of, each once.
func (a *assembled) blobs() []ocispec.Descriptor {
	var list []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	add := func(desc ocispec.Descriptor) {
		if !seen[desc.Digest] {
			seen[desc.Digest] = true
			list = append(list, desc)
		}
	}
	add(a.desc)
	for _, m := range a.manifests {
		add(m.desc)
		add(m.manifest.Config)
		for _, l := range m.manifest.Layers {
			add(l)
		}
	}
	return list
}

// assemble makes the blobs of an image; outputs that want the same share them.
func (j *job) assemble(ctx context.Context, out Output) (*assembled, error) {
	notes := merged(map[string]Annotations{"": j.image.Annotations}, out.Annotations)
	if err := j.checkAnnotations(out, notes); err != nil {
		return nil, err
	}
	a := &assembled{}
	for _, p := range j.image.Platforms {
		m, err := j.platform(ctx, p, out, notesFor(notes, &p.Platform))
		if err != nil {
			return nil, err
		}
		a.manifests = append(a.manifests, m)
	}
	if len(a.manifests) == 1 && !j.image.Index {
		a.desc = a.manifests[0].desc
		return a, nil
	}
	desc, err := j.index(ctx, a.manifests, out, notesFor(notes, nil))
	a.desc = desc
	return a, err
}

// index makes the index of several platforms.
func (j *job) index(ctx context.Context, manifests []assembledManifest, out Output, notes Annotations) (ocispec.Descriptor, error) {
	idx := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Annotations: notes.Index,
	}
	if out.dockerTypes() {
		idx.MediaType = dockerManifestList
	}
	for _, m := range manifests {
		idx.Manifests = append(idx.Manifests, m.desc)
	}
	data, err := json.MarshalIndent(idx, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write index: %w", err)
	}
	desc, err := j.keep(ctx, data, idx.MediaType)
	desc.Annotations = notes.IndexDescriptor
	return desc, err
}

// platform makes the manifest and config of one platform.
func (j *job) platform(ctx context.Context, p PlatformImage, out Output, notes Annotations) (assembledManifest, error) {
	layers, err := j.layerBlobs(ctx, p, out)
	if err != nil {
		return assembledManifest{}, err
	}
	config, err := j.config(p, layers)
	if err != nil {
		return assembledManifest{}, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Annotations: notes.Manifest, Layers: []ocispec.Descriptor{},
	}
	configType := ocispec.MediaTypeImageConfig
	if out.dockerTypes() {
		m.MediaType, configType = dockerManifest, dockerConfig
	}
	for _, info := range layers {
		desc, err := layerDescriptor(info.Desc, out)
		if err != nil {
			return assembledManifest{}, err
		}
		m.Layers = append(m.Layers, desc)
	}
	if m.Config, err = j.keep(ctx, config, configType); err != nil {
		return assembledManifest{}, err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return assembledManifest{}, fmt.Errorf("write manifest: %w", err)
	}
	desc, err := j.keep(ctx, data, m.MediaType)
	desc.Annotations = notes.ManifestDescriptor
	platform := platforms.Normalize(p.Platform)
	desc.Platform = &platform
	return assembledManifest{desc: desc, manifest: m}, err
}

// layerBlobs makes the blobs of the layers, as many at a time as there are
// processors to compress them.
func (j *job) layerBlobs(ctx context.Context, p PlatformImage, out Output) ([]layer.Info, error) {
	infos := make([]layer.Info, len(p.Layers))
	store := j.at(j.epoch)
	jobs, jctx := errgroup.WithContext(ctx)
	jobs.SetLimit(runtime.GOMAXPROCS(0))
	for i, id := range p.Layers {
		jobs.Go(func() error {
			info, err := store.Blob(jctx, id, out.Compression)
			if err != nil {
				return fmt.Errorf("make blob of layer %d of %d (%s): %w", i+1, len(p.Layers), id, err)
			}
			infos[i] = info
			j.p.Status("exporting layer "+info.Desc.Digest.String(), info.Desc.Size, info.Desc.Size, true)
			return nil
		})
	}
	return infos, jobs.Wait()
}

// keep makes a blob of a document.
func (j *job) keep(ctx context.Context, data []byte, kind string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: kind, Digest: digest.FromBytes(data), Size: int64(len(data))}
	// Most documents are there already: then nothing is written.
	found := false
	err := j.opts.Store.Acquire(func() error {
		if _, found = j.opts.Store.HasBlob(desc.Digest); found {
			return j.opts.Store.LeaseMade(store.BlobRef(desc.Digest))
		}
		return nil
	})
	if err != nil || found {
		return desc, err
	}
	w, err := j.opts.Store.NewBlob(ctx)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("store %s: %w", kind, err)
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("store %s: %w", kind, err)
	}
	if _, _, err := w.Commit(ctx, desc.Digest, desc.Size); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("store %s: %w", kind, err)
	}
	return desc, nil
}

// layerDescriptor is a layer's descriptor in a manifest: of the manifest's
// family of media types, always distributable, without notes of the store.
func layerDescriptor(desc ocispec.Descriptor, out Output) (ocispec.Descriptor, error) {
	base, ok := plainTypes[strings.Replace(strings.Replace(desc.MediaType, ".nondistributable", "", 1), ".foreign", "", 1)]
	if !ok {
		return desc, fmt.Errorf("layer %s is of the type %q, which is no layer of an image", desc.Digest, desc.MediaType)
	}
	kind := base.oci
	if out.dockerTypes() {
		if kind = base.docker; kind == "" {
			return desc, fmt.Errorf("layer %s is compressed with zstd, for which docker has no media type: use compression=gzip,force-compression=true or oci-mediatypes=true", desc.Digest)
		}
	}
	return ocispec.Descriptor{MediaType: kind, Digest: desc.Digest, Size: desc.Size}, nil
}

type typePair struct{ oci, docker string }

// plainTypes gives for each layer type both families' name.
var plainTypes = map[string]typePair{
	ocispec.MediaTypeImageLayer:     {ocispec.MediaTypeImageLayer, dockerLayer},
	ocispec.MediaTypeImageLayerGzip: {ocispec.MediaTypeImageLayerGzip, dockerLayerGzip},
	ocispec.MediaTypeImageLayerZstd: {ocispec.MediaTypeImageLayerZstd, ""},
	dockerLayer:                     {ocispec.MediaTypeImageLayer, dockerLayer},
	dockerLayerGzip:                 {ocispec.MediaTypeImageLayerGzip, dockerLayerGzip},
	dockerLayer + ".zstd":           {ocispec.MediaTypeImageLayerZstd, ""},
}

// Annotations by the place they go to.
type Annotations struct {
	Manifest, Index, ManifestDescriptor, IndexDescriptor map[string]string
}

// merged adds annotations; the later ones win.
func merged(groups ...map[string]Annotations) map[string]Annotations {
	all := map[string]Annotations{}
	for _, group := range groups {
		for platform, notes := range group {
			all[platform] = Annotations{
				Manifest:           union(all[platform].Manifest, notes.Manifest),
				Index:              union(all[platform].Index, notes.Index),
				ManifestDescriptor: union(all[platform].ManifestDescriptor, notes.ManifestDescriptor),
				IndexDescriptor:    union(all[platform].IndexDescriptor, notes.IndexDescriptor),
			}
		}
	}
	return all
}

func union(a, b map[string]string) map[string]string {
	if len(b) == 0 {
		return a
	}
	m := maps.Clone(a)
	if m == nil {
		m = map[string]string{}
	}
	maps.Copy(m, b)
	return m
}

// notesFor picks what concerns a platform; nil is the index.
func notesFor(all map[string]Annotations, p *ocispec.Platform) Annotations {
	notes := Annotations{Manifest: all[""].Manifest, ManifestDescriptor: all[""].ManifestDescriptor}
	if p != nil {
		own := all[platforms.FormatAll(platforms.Normalize(*p))]
		notes.Manifest = union(notes.Manifest, own.Manifest)
		notes.ManifestDescriptor = union(notes.ManifestDescriptor, own.ManifestDescriptor)
	}
	for _, own := range all {
		notes.Index = union(notes.Index, own.Index)
		notes.IndexDescriptor = union(notes.IndexDescriptor, own.IndexDescriptor)
	}
	return notes
}

func (j *job) checkAnnotations(out Output, all map[string]Annotations) error {
	known := map[string]bool{"": true}
	for _, p := range j.image.Platforms {
		known[platforms.FormatAll(platforms.Normalize(p.Platform))] = true
	}
	for platform, notes := range all {
		index := len(notes.Index) + len(notes.IndexDescriptor)
		switch {
		case !known[platform]:
			return fmt.Errorf("annotation for %s: the image is not built for that platform", platform)
		case index > 0 && len(j.image.Platforms) == 1 && !j.image.Index:
			return errors.New("index annotations need an image of several platforms")
		case out.dockerTypes() && index+len(notes.ManifestDescriptor) > 0:
			return errors.New("docker's media types know no annotations of indexes and descriptors: use oci-mediatypes=true")
		}
	}
	return nil
}

// fullNames normalises the names of an image; an output's own replace those of
// the build.
func fullNames(build, own []string) ([]string, error) {
	names := build
	if len(own) > 0 {
		names = own
	}
	var full []string
	for _, name := range names {
		ref, err := registry.ParseReference(name)
		if err != nil {
			return nil, err
		}
		if _, ok := ref.(reference.Digested); ok {
			return nil, fmt.Errorf("image name %q holds a digest, which the build decides", name)
		}
		full = append(full, ref.String())
	}
	return full, nil
}
