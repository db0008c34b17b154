package layer

import (
	"context"
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/store"
)

// sizeKey is the key of the note of a size that nothing else knows. It is
// attached to the blob.
func sizeKey(blob digest.Digest) string { return "size " + blob.String() }

// Sizes knows the sizes of layers' uncompressed tars.
type Sizes struct {
	s     *Store
	known map[digest.Digest]int64 // by diff ID
}

// Sizes reads what is known about the sizes of layers.
func (s *Store) Sizes() (*Sizes, error) {
	z := &Sizes{s: s, known: map[digest.Digest]int64{}}
	for entry, err := range s.store.Records(Bucket) {
		if err != nil {
			return nil, fmt.Errorf("read sizes of layers: %w", err)
		}
		var r record
		if entry.Decode(&r) == nil && r.Size > 0 { // other records of the bucket hold no size
			z.known[r.DiffID] = r.Size
		}
	}
	return z, nil
}

// Of returns the size of a layer's uncompressed tar. Where nobody has unpacked
// the blob yet, it is counted and noted. A blob that is not there has no size:
// store.ErrNotFound.
func (z *Sizes) Of(ctx context.Context, desc ocispec.Descriptor, diffID digest.Digest) (int64, error) {
	if desc.Digest == diffID {
		return desc.Size, nil
	}
	if size, ok := z.known[diffID]; ok {
		return size, nil
	}
	r := record{DiffID: diffID}
	counter := &counter{ctx: ctx}
	if err := z.s.unpacked(desc.Digest, counter); err != nil {
		return 0, fmt.Errorf("read layer %s: %w", desc.Digest, err)
	}
	r.Size, z.known[diffID] = counter.n, counter.n
	return r.Size, z.s.store.PutRecord(Bucket, sizeKey(desc.Digest), r, store.BlobRef(desc.Digest))
}

// counter counts what is written.
type counter struct {
	ctx context.Context
	n   int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), c.ctx.Err()
}

// Unpacked returns the ids of those of an image's layers that are unpacked,
// bottom first, up to the first that is not.
func (s *Store) Unpacked(diffIDs []digest.Digest) []string {
	var ids []string
	for _, diffID := range diffIDs {
		id := s.idOf(diffID)
		if !s.Have(id) {
			id = s.chainIDOf(diffID, ids)
		}
		if !s.Have(id) {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

// Read opens a layer's blob as an uncompressed tar. Closing before the end is
// in order.
func (s *Store) Read(d digest.Digest) (io.ReadCloser, error) {
	blob, err := s.store.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	plain, _, err := Decompress(blob)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read layer %s: %w", d, err), blob.Close())
	}
	return &tarReader{plain, blob}, nil
}

// tarReader closes the blob, too.
type tarReader struct {
	io.ReadCloser
	blob *store.Blob
}

func (r *tarReader) Close() error { return errors.Join(r.ReadCloser.Close(), r.blob.Close()) }
