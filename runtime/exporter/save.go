package exporter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/distribution/reference"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/store"
)

// Saved is an image of the store to be saved.
type Saved struct {
	Desc ocispec.Descriptor
	// Names are familiar ones; may be none.
	Names []string
	// Platform chooses what a docker archive holds of an image of several
	// platforms, and with Single, what any archive holds.
	Platform *ocispec.Platform
	Single   bool
}

// SaveRequest says what to save where.
type SaveRequest struct {
	Images []Saved
	// Docker writes what `docker load` of any version reads; the archive is an
	// OCI layout in any case.
	Docker bool
	// Compression of the whole archive: "", "gzip" or "zstd".
	Compression string
	// Dest is a path, or "-" for standard output.
	Dest string
}

// Save writes images of the store into one archive. The same images give the
// same bytes.
func (e *Exporter) Save(ctx context.Context, req SaveRequest) error {
	j := &job{Exporter: e, epoch: time.Unix(0, 0).UTC(), p: &serial{}}
	a := layoutFiles{more: map[string][]byte{}}
	var docker []dockerEntry
	for _, img := range req.Images {
		m, err := j.addSaved(ctx, &a, img)
		if err != nil {
			return err
		}
		entry, err := entryOf(m, img.Names)
		if err != nil {
			return err
		}
		docker = append(docker, entry)
	}
	if len(req.Images) > 1 {
		tellApart(a.entries)
	}
	if req.Docker {
		data, err := json.Marshal(docker)
		if err != nil {
			return fmt.Errorf("write manifest.json: %w", err)
		}
		a.more["manifest.json"] = data
	}
	return j.writeTo(ctx, req.Dest, func(w io.Writer) error {
		return compressed(w, req.Compression, func(w io.Writer) error { return j.writeLayout(ctx, w, a) })
	})
}

// addSaved adds an image to the layout, and returns the manifest of its
// platform.
func (j *job) addSaved(ctx context.Context, a *layoutFiles, img Saved) (image.Manifest, error) {
	m, err := j.savedManifest(ctx, img)
	if err != nil {
		return m, err
	}
	root := img.Desc
	blobs := []ocispec.Descriptor{}
	if img.Single {
		root = m.Desc
		blobs = append(append(blobs, m.Desc, m.ConfigDesc), m.Layers...)
	} else if blobs, err = j.opts.Images.Contents(ctx, root); err != nil {
		return m, err
	}
	for _, desc := range blobs {
		if _, ok := j.opts.Store.HasBlob(desc.Digest); !ok {
			return m, fmt.Errorf("save %s: its content %s is not in the store (%w): pull or build it again", displayName(img), desc.Digest, store.ErrNotFound)
		}
		a.add(desc)
	}
	a.entries = append(a.entries, savedEntries(root, img.Names)...)
	return m, nil
}

// savedManifest is the platform that a docker archive shows: the one that is
// asked for, the machine's, or else the first that is there.
func (j *job) savedManifest(ctx context.Context, img Saved) (image.Manifest, error) {
	m, err := j.opts.Images.Load(ctx, img.Desc, img.Platform, nil)
	if err == nil || img.Platform != nil || !errors.Is(err, image.ErrNoPlatform) && !errors.Is(err, image.ErrMissing) {
		return m, err
	}
	all, err := j.opts.Images.LoadAll(ctx, img.Desc, nil)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("save %s: no platform of it is in the store: pull it first", displayName(img))
	}
	if err != nil {
		return m, err
	}
	return all[0], nil
}

func displayName(img Saved) string {
	if len(img.Names) > 0 {
		return img.Names[0]
	}
	return img.Desc.Digest.String()
}

// savedEntries are what index.json says of an image.
func savedEntries(root ocispec.Descriptor, names []string) []ocispec.Descriptor {
	plain := ocispec.Descriptor{MediaType: root.MediaType, Digest: root.Digest, Size: root.Size, Platform: root.Platform}
	if len(names) == 0 {
		return []ocispec.Descriptor{plain}
	}
	var list []ocispec.Descriptor
	for _, name := range names {
		full, ref := fullName(name)
		if ref == "" {
			ref = full
		}
		desc := plain
		desc.Annotations = map[string]string{annotationName: full, ocispec.AnnotationRefName: ref}
		list = append(list, desc)
	}
	return list
}

// tellApart gives the entries of several images full names where one alone has
// its tag: that would be the same for many.
func tellApart(entries []ocispec.Descriptor) {
	for _, desc := range entries {
		if name := desc.Annotations[annotationName]; name != "" {
			desc.Annotations[ocispec.AnnotationRefName] = name
		}
	}
}

// fullName is a familiar name in full, and its tag.
func fullName(name string) (full, tag string) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name, ""
	}
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return named.String(), tag
}

func entryOf(m image.Manifest, names []string) (dockerEntry, error) {
	entry := dockerEntry{Config: blobName(m.ConfigDesc), Layers: []string{}, RepoTags: []string{}}
	for _, name := range names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return entry, fmt.Errorf("image name %q: %w", name, err)
		}
		if _, ok := named.(reference.Tagged); ok {
			entry.RepoTags = append(entry.RepoTags, reference.FamiliarString(named))
		}
	}
	for _, l := range m.Layers {
		entry.Layers = append(entry.Layers, blobName(l))
	}
	return entry, nil
}

// compressed has fill write through a compressor. Its output does not depend
// on the machine.
func compressed(w io.Writer, kind string, fill func(io.Writer) error) error {
	var z io.WriteCloser
	var err error
	switch kind {
	case "":
		return fill(w)
	case "gzip":
		g := pgzip.NewWriter(w)
		g.ModTime = time.Unix(0, 0)
		z = g
	case "zstd":
		z, err = zstd.NewWriter(w)
	default:
		return fmt.Errorf("compression %q: it is gzip or zstd", kind)
	}
	if err != nil {
		return fmt.Errorf("compress archive: %w", err)
	}
	return errors.Join(fill(z), z.Close())
}
