package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

// defaultJobs bounds the layers that are fetched at a time.
const defaultJobs = 3

// UnpackRequest says what to unpack.
type UnpackRequest struct {
	Manifest Manifest
	// Source supplies the layers that the store lacks; nil means none.
	Source Source
	// Progress is called from several goroutines with the bytes of a layer's
	// blob that were fetched. May be nil.
	Progress func(desc ocispec.Descriptor, offset int64)
	// Jobs bounds the parallel layers; 0 means 3.
	Jobs int
}

// Unpack makes an image's layers and returns their ids, bottom first. Layers
// that are there already cost a look-up; blobs that are not in the store are
// unpacked while they are fetched, and kept.
func (s *Store) Unpack(ctx context.Context, req UnpackRequest) ([]string, error) {
	u := &unpacking{ids: make([]string, len(req.Manifest.Layers)), done: make([]chan struct{}, len(req.Manifest.Layers))}
	jobs, jctx := errgroup.WithContext(ctx)
	jobs.SetLimit(jobLimit(req.Jobs))
	for i := range req.Manifest.Layers {
		u.done[i] = make(chan struct{})
	}
	// A layer may wait for those below it. They hold their places already,
	// since jobs start in order: the limit cannot lock them out.
	for i, desc := range req.Manifest.Layers {
		jobs.Go(func() error {
			id, err := s.unpackLayer(jctx, desc, layerRequest{
				diffID: req.Manifest.Config.RootFS.DiffIDs[i], src: req.Source, progress: req.Progress,
				parents: func(ctx context.Context) ([]string, error) { return u.below(ctx, i) },
			})
			if err != nil {
				return fmt.Errorf("unpack layer %d of %d (%s): %w", i+1, len(u.ids), desc.Digest, err)
			}
			u.ids[i] = id
			close(u.done[i])
			return nil
		})
	}
	if err := jobs.Wait(); err != nil {
		return nil, s.blobs.Explain(err)
	}
	return u.ids, nil
}

func jobLimit(n int) int {
	if n <= 0 {
		return defaultJobs
	}
	return n
}

// unpacking holds ids as they come to be known; done[i] is closed after ids[i]
// is set.
type unpacking struct {
	ids  []string
	done []chan struct{}
}

// below waits for the ids under layer i.
func (u *unpacking) below(ctx context.Context, i int) ([]string, error) {
	for _, done := range u.done[:i] {
		select {
		case <-done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return u.ids[:i:i], nil
}

type layerRequest struct {
	diffID   digest.Digest
	src      Source
	progress func(ocispec.Descriptor, int64)
	parents  func(context.Context) ([]string, error)
}

// unpackLayer imports one layer. Bytes that turn out wrong are fetched once
// more, from another mirror if there is one.
func (s *Store) unpackLayer(ctx context.Context, desc ocispec.Descriptor, req layerRequest) (string, error) {
	if !isLayer(desc.MediaType) {
		return "", fmt.Errorf("%w: %q is not a file system layer", ErrMalformed, desc.MediaType)
	}
	imp := layer.ImportRequest{Desc: desc, DiffID: req.diffID, Parents: req.parents}
	imp.Open = func(ctx context.Context) (io.ReadCloser, error) { return s.openLayer(ctx, desc, req) }
	id, err := s.layers.Import(ctx, imp)
	if mismatch(err) && ctx.Err() == nil {
		id, err = s.layers.Import(ctx, imp)
	}
	return id, err
}

func mismatch(err error) bool {
	return errors.Is(err, registry.ErrUnverified) || errors.Is(err, store.ErrMismatch)
}

// isLayer accepts tar layers in any compression, of OCI and docker.
func isLayer(kind string) bool {
	return strings.HasPrefix(kind, "application/vnd.oci.image.layer.") ||
		strings.HasPrefix(kind, "application/vnd.docker.image.rootfs.") || kind == ""
}

// openLayer returns a layer's bytes: from the store, or from the source into
// the store on the way. A part that an earlier attempt left is completed first
// and then read from the disk.
func (s *Store) openLayer(ctx context.Context, desc ocispec.Descriptor, req layerRequest) (io.ReadCloser, error) {
	w, offset, err := s.blobs.ResumeBlob(ctx, desc.Digest)
	if errors.Is(err, store.ErrExists) {
		return s.present(desc)
	}
	if err != nil {
		return nil, fmt.Errorf("store blob %s: %w", desc.Digest, err)
	}
	if req.src == nil {
		w.Close()
		return nil, fmt.Errorf("layer %s is not in the store, and nothing says where to fetch it: %w", desc.Digest, ErrMissing)
	}
	t := &tee{ctx: ctx, w: w, desc: desc, at: offset, whole: offset == 0, progress: req.progress}
	if offset > desc.Size {
		return nil, errors.Join(w.Discard(), fmt.Errorf("layer %s: the part in the store is larger than the whole: %w", desc.Digest, store.ErrMismatch))
	}
	if t.r, err = req.src.Open(ctx, desc, offset); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if offset == 0 {
		return t, nil
	}
	if _, err := io.Copy(io.Discard, t); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return s.hold(desc.Digest)
}

// present opens a blob of the store.
func (s *Store) present(desc ocispec.Descriptor) (io.ReadCloser, error) {
	blob, err := s.hold(desc.Digest)
	if err != nil {
		return nil, err
	}
	if blob.Size() != desc.Size {
		return nil, errors.Join(blob.Close(), fmt.Errorf("%w: the manifest says that layer %s has %d bytes, it has %d", ErrMalformed, desc.Digest, desc.Size, blob.Size()))
	}
	return blob, nil
}

// tee writes what is read into the store. At the end it commits: the reader
// sees io.EOF only after the blob was verified and stands in the store.
type tee struct {
	ctx      context.Context
	r        io.ReadCloser
	w        *store.BlobWriter
	desc     ocispec.Descriptor
	at       int64
	progress func(ocispec.Descriptor, int64)
	whole    bool // read from its first byte on
	err      error
}

// rejecter is a reader that wants to know if its bytes were wrong.
type rejecter interface{ Reject() error }

// Read implements io.Reader.
func (t *tee) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	n, err := t.r.Read(p)
	if n > 0 {
		if _, werr := t.w.Write(p[:n]); werr != nil {
			t.err = fmt.Errorf("store blob %s: %w", t.desc.Digest, werr)
			return 0, t.err
		}
		t.at += int64(n)
		t.tell()
	}
	switch {
	case errors.Is(err, io.EOF):
		t.err = t.commit()
	default:
		t.err = err
	}
	return n, t.err
}

// commit verifies; it returns io.EOF on success. The store drops what is
// wrong, be it from the source or from an earlier attempt.
func (t *tee) commit() error {
	_, _, err := t.w.Commit(t.ctx, t.desc.Digest, t.desc.Size)
	if err == nil {
		return io.EOF
	}
	if r, ok := t.r.(rejecter); ok && t.whole && errors.Is(err, store.ErrMismatch) {
		return r.Reject()
	}
	return fmt.Errorf("store blob %s: %w", t.desc.Digest, err)
}

func (t *tee) tell() {
	if t.progress != nil {
		t.progress(t.desc, t.at)
	}
}

// Close implements io.Closer. What was read of an unfinished blob is kept for
// the next attempt.
func (t *tee) Close() error {
	return errors.Join(t.r.Close(), t.w.Close())
}

// fetch brings a blob into the store without unpacking it.
func (s *Store) fetch(ctx context.Context, desc ocispec.Descriptor, req layerRequest) error {
	if _, ok := s.blobs.HasBlob(desc.Digest); ok {
		blob, err := s.hold(desc.Digest)
		if err == nil {
			return blob.Close()
		}
	}
	attempt := func() error {
		r, err := s.openLayer(ctx, desc, req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	}
	err := attempt()
	if mismatch(err) && ctx.Err() == nil {
		err = attempt()
	}
	return err
}
