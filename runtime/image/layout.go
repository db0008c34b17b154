package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/registry"
)

// annotationName is where containerd, and docker with it, keeps a full name.
const annotationName = "io.containerd.image.name"

// Imported is one image of an archive or a layout.
type Imported struct {
	// Names are the full names that it has there; may be none.
	Names []string
	// Tag is what an OCI layout gives in the place of a name; may be "".
	Tag  string
	Desc ocispec.Descriptor
}

// readIndex reads the index.json of an OCI layout directory.
func readIndex(dir string) (ocispec.Index, error) {
	f, err := openRegular(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return ocispec.Index{}, fmt.Errorf("%s is not an OCI layout: %w", dir, err)
	}
	defer f.Close()
	data, err := readAtMost(f, maxDocument)
	if err != nil {
		return ocispec.Index{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	index, err := parseIndex(data)
	if err != nil {
		return index, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return index, nil
}

func parseIndex(data []byte) (ocispec.Index, error) {
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return index, fmt.Errorf("%w: index.json: %w", ErrMalformed, err)
	}
	for _, desc := range index.Manifests {
		if err := checkDescriptor(desc); err != nil {
			return index, fmt.Errorf("%w: index.json: %w", ErrMalformed, err)
		}
	}
	return index, nil
}

// LayoutDigest finds what a tag, a full name or a digest stands for in an OCI
// layout directory. An empty one means the only image, or else latest.
func LayoutDigest(dir, tag string) (ocispec.Descriptor, error) {
	index, err := readIndex(dir)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if tag == "" && len(index.Manifests) == 1 {
		return index.Manifests[0], nil
	}
	want := tag
	if want == "" {
		want = "latest"
	}
	var have []string
	for _, desc := range index.Manifests {
		names := []string{desc.Annotations[annotationName], desc.Annotations[ocispec.AnnotationRefName], desc.Digest.String()}
		if slices.Contains(names, want) || sameName(names[0], want) {
			return desc, nil
		}
		known := strings.Fields(strings.Join(names[:2], " "))
		if len(known) == 0 {
			known = names[2:]
		}
		have = append(have, strings.Join(known, "="))
	}
	return ocispec.Descriptor{}, fmt.Errorf("OCI layout %s has no %q, it has %s: %w", dir, want, strings.Join(have, ", "), ErrNotFound)
}

// sameName compares after normalising.
func sameName(a, b string) bool {
	left, err := registry.ParseReference(a)
	if err != nil {
		return false
	}
	right, err := registry.ParseReference(b)
	return err == nil && left.String() == right.String()
}

// ImportLayout reads all images of an OCI layout directory into the store.
// Their names are returned, not recorded.
func (s *Store) ImportLayout(ctx context.Context, dir string) ([]Imported, error) {
	index, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	return s.importIndex(ctx, index, LayoutSource(dir))
}

// importIndex brings the images of an index into the store. An index within it
// may lack platforms, as `docker save` writes it for an image of which it has
// only one; not all of them.
func (s *Store) importIndex(ctx context.Context, index ocispec.Index, src Source) ([]Imported, error) {
	var found []Imported
	for _, desc := range index.Manifests {
		if !isImage(desc) {
			continue
		}
		if err := s.importTree(ctx, desc, src, 0); err != nil {
			return nil, fmt.Errorf("import image %s: %w", desc.Digest, err)
		}
		next := imported(desc)
		at := slices.IndexFunc(found, func(i Imported) bool { return i.Desc.Digest == desc.Digest })
		if at < 0 {
			found = append(found, next)
		} else {
			found[at].Names = append(found[at].Names, next.Names...)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no image in it: %w", ErrMalformed)
	}
	return found, nil
}

// imported reads the name of an index entry.
func imported(desc ocispec.Descriptor) Imported {
	name, tag := desc.Annotations[annotationName], desc.Annotations[ocispec.AnnotationRefName]
	if name == "" && strings.ContainsAny(tag, "/:") {
		name, tag = tag, ""
	}
	i := Imported{Desc: plainDescriptor(desc), Tag: tag}
	if named, err := registry.ParseReference(name); err == nil {
		i.Names = []string{reference.FamiliarString(named)}
	}
	return i
}

// importTree brings one image, or all of an index that is there.
func (s *Store) importTree(ctx context.Context, desc ocispec.Descriptor, src Source, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("%w: nested more than %d deep", ErrMalformed, maxNesting)
	}
	doc, err := s.document(ctx, desc, src)
	if err != nil {
		return err
	}
	if !doc.isIndex() {
		return s.importManifest(ctx, doc, src)
	}
	var last error
	complete := 0
	for _, child := range doc.Manifests {
		err := s.importTree(ctx, child, src, depth+1)
		if err != nil && !errors.Is(err, ErrMissing) {
			return err
		}
		if err != nil {
			last = err
		} else if isImage(child) {
			complete++
		}
	}
	if complete == 0 {
		return errors.Join(fmt.Errorf("%w: no platform of it is complete", ErrMalformed), last)
	}
	return nil
}

func (s *Store) importManifest(ctx context.Context, doc *document, src Source) error {
	if isImage(ocispec.Descriptor{MediaType: doc.desc.MediaType}) {
		if _, err := s.manifest(ctx, doc, src); err != nil {
			return err
		}
	}
	for _, blob := range doc.blobs() {
		if err := s.fetch(ctx, blob, layerRequest{src: src}); err != nil {
			return err
		}
	}
	return nil
}
