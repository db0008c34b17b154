package layer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blob returns the layer's blob in the given compression, making it where
// there is none. A blob that came from a registry is reused whatever its
// compression, unless c.Force is set and it is another one. The process leases
// the blob.
func (s *Store) Blob(ctx context.Context, id string, c Compression) (Info, error) {
	c, err := c.normal()
	if err != nil {
		return Info{}, err
	}
	info, found, err := s.findBlob(id, c)
	if found || err != nil {
		return info, err
	}
	lock, err := s.store.Lock(ctx, "layer blob "+id)
	if err != nil {
		return Info{}, fmt.Errorf("lock layer %s: %w", id, err)
	}
	info, err = s.blobLocked(ctx, id, c)
	return info, errors.Join(err, lock.Unlock())
}

func (s *Store) blobLocked(ctx context.Context, id string, c Compression) (Info, error) {
	info, found, err := s.findBlob(id, c)
	if found || err != nil {
		return info, err
	}
	info, err = s.makeBlob(ctx, id, c)
	if err != nil {
		return Info{}, fmt.Errorf("make blob of layer %s: %w", id, err)
	}
	return info, nil
}

// findBlob returns the blob if the store has it.
func (s *Store) findBlob(id string, c Compression) (Info, bool, error) {
	r, _, err := s.lookUp(id)
	if r == nil || err != nil {
		return Info{}, false, err
	}
	for _, desc := range r.candidates(c) {
		found, err := s.holdBlob(desc)
		if found || err != nil {
			return Info{DiffID: r.DiffID, Desc: desc}, found, err
		}
	}
	return Info{}, false, nil
}

// candidates are the known blobs that would do, the best first.
func (r *record) candidates(c Compression) []ocispec.Descriptor {
	var all []ocispec.Descriptor
	if r.Pulled != nil && (!c.Force || typeOf(r.Pulled.MediaType) == c.Type) {
		all = append(all, *r.Pulled)
	}
	if desc, ok := r.Made[c.name()]; ok {
		all = append(all, desc)
	}
	return all
}

// typeOf is the compression that a media type, of OCI or docker, names.
func typeOf(mediaType string) Type {
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		return Gzip
	case strings.HasSuffix(mediaType, "zstd"):
		return Zstd
	default:
		return None
	}
}

// makeBlob makes a blob, and notes it. What a pulled layer's blob held is taken
// from there, so that the diff ID stays; where that is gone, the directory must
// give the same bytes.
func (s *Store) makeBlob(ctx context.Context, id string, c Compression) (Info, error) {
	r, key, err := s.lookUp(id)
	if err != nil {
		return Info{}, err
	}
	produce, err := s.producer(ctx, id, r)
	if err != nil {
		return Info{}, err
	}
	made, desc, err := s.write(ctx, c, r, produce)
	if err != nil {
		return Info{}, err
	}
	if r == nil {
		r = &record{DiffID: made.diffID, Size: made.size}
	}
	if r.Made == nil {
		r.Made = map[string]ocispec.Descriptor{}
	}
	r.Made[c.name()] = desc
	if err := s.store.PutRecord(Bucket, key, r, r.refs(id)...); err != nil {
		return Info{}, err
	}
	return Info{DiffID: made.diffID, Desc: desc}, nil
}

// Pack makes a layer of a directory in overlay format, such as that of a
// container's changes, and returns its id. The directory may change meanwhile
// and later. The process leases layer and blob.
func (s *Store) Pack(ctx context.Context, dir string, c Compression) (string, error) {
	c, err := c.normal()
	if err != nil {
		return "", err
	}
	made, desc, err := s.write(ctx, c, nil, func(w io.Writer) error {
		return WriteTar(ctx, w, dir, WriteOptions{Epoch: s.epoch, Format: s.format, Changing: true})
	})
	if err != nil {
		return "", fmt.Errorf("pack %s: %w", dir, err)
	}
	return s.Import(ctx, ImportRequest{Desc: desc, DiffID: made.diffID})
}

// producer returns what writes the layer's tar.
func (s *Store) producer(ctx context.Context, id string, r *record) (func(io.Writer) error, error) {
	if r != nil && r.Pulled != nil {
		found, err := s.holdBlob(*r.Pulled)
		if err != nil {
			return nil, err
		}
		if found {
			return func(w io.Writer) error { return s.unpacked(r.Pulled.Digest, w) }, nil
		}
	}
	dir, err := s.snaps.Layer(id)
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error {
		return WriteTar(ctx, w, dir, WriteOptions{Epoch: s.epoch, Format: s.format})
	}, nil
}

// unpacked writes the uncompressed content of a blob.
func (s *Store) unpacked(d digest.Digest, w io.Writer) error {
	blob, err := s.store.OpenBlob(d)
	if err != nil {
		return err
	}
	plain, _, err := Decompress(blob)
	if err == nil {
		_, err = io.CopyBuffer(writerOnly{w}, plain, make([]byte, tarBuffer))
		plain.Close()
	}
	if err == nil { // to where the blob is verified
		_, err = io.Copy(io.Discard, blob)
	}
	return errors.Join(err, blob.Close())
}

// writerOnly hides other methods from io.Copy, which would choose small pieces.
type writerOnly struct{ io.Writer }

// write makes a blob of what produce writes. What is known about the layer must
// come out again.
func (s *Store) write(ctx context.Context, c Compression, known *record, produce func(io.Writer) error) (encoded, ocispec.Descriptor, error) {
	w, err := s.store.NewBlob(ctx)
	if err != nil {
		return encoded{}, ocispec.Descriptor{}, err
	}
	buffered := bufio.NewWriterSize(w, tarBuffer)
	made, err := encode(ctx, buffered, c, produce)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil && known != nil && known.DiffID != made.diffID {
		err = fmt.Errorf("%w (it has the diff ID %s now, not %s)", ErrGone, made.diffID, known.DiffID)
	}
	if err != nil {
		return encoded{}, ocispec.Descriptor{}, errors.Join(err, w.Close())
	}
	d, size, err := w.Commit(ctx, "", -1)
	desc := ocispec.Descriptor{MediaType: c.MediaType(), Digest: d, Size: size}
	return made, desc, errors.Join(err, w.Close())
}
