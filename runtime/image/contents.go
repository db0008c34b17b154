package image

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Contents lists everything that an image consists of, each blob once, the
// image's own document first. Platforms of an index that were not fetched are
// left out.
func (s *Store) Contents(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	w := &walk{s: s, seen: map[string]bool{}}
	err := w.visit(ctx, desc, 0)
	return w.list, err
}

type walk struct {
	s    *Store
	seen map[string]bool
	list []ocispec.Descriptor
}

func (w *walk) add(desc ocispec.Descriptor) bool {
	if w.seen[desc.Digest.String()] {
		return false
	}
	w.seen[desc.Digest.String()] = true
	w.list = append(w.list, desc)
	return true
}

func (w *walk) visit(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if depth > maxNesting {
		return nil // Load says what is wrong with it
	}
	doc, err := w.s.document(ctx, desc, nil)
	if err != nil {
		return err
	}
	if !w.add(doc.desc) {
		return nil
	}
	for _, blob := range doc.blobs() {
		w.add(blob)
	}
	for _, child := range doc.Manifests {
		if !w.s.there(child) {
			continue
		}
		if err := w.visit(ctx, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// there reports whether a platform of an index was fetched whole: its document
// alone may have come with another one.
func (s *Store) there(desc ocispec.Descriptor) bool {
	doc, err := s.document(context.Background(), desc, nil)
	if err != nil {
		return false
	}
	for _, blob := range doc.blobs() {
		if _, ok := s.blobs.HasBlob(blob.Digest); !ok {
			return false
		}
	}
	return true
}
