package layer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// ImportRequest is a layer blob to unpack.
type ImportRequest struct {
	// Desc is the blob's descriptor.
	Desc ocispec.Descriptor
	// DiffID is the digest that the image config promises; "" accepts any.
	DiffID digest.Digest
	// Open returns the blob. It is not called when the store has it. The reader
	// puts what is read into the store, and ends with io.EOF only after the blob
	// was verified and is there, so that it is fetched, verified, kept and
	// unpacked in one pass. nil where the blob must be in the store.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Parents returns the layer IDs below, bottom first, waiting for their
	// import. It is called only when the layer cannot be unpacked without
	// them; nil means there are none.
	Parents func(ctx context.Context) ([]string, error)
	// Warn is told of extended attributes that could not be set. May be nil.
	Warn func(text string)
}

// Import unpacks a layer blob and returns the layer's id; the process leases
// both. A layer that is unpacked already is not read again. A layer with the
// same content has the same id, except where it could not be unpacked without
// those below.
func (s *Store) Import(ctx context.Context, req ImportRequest) (id string, err error) {
	if err := req.check(); err != nil {
		return "", err
	}
	// The layers below are waited for without the lock: one of them may be
	// the same blob.
	var below *[]string
	for {
		id, err := s.tryImport(ctx, &req, below)
		if !errors.Is(err, errNeedsLower) || below != nil {
			return id, err
		}
		parents, err := req.parents(ctx)
		if err != nil {
			return "", err
		}
		below = &parents
	}
}

// tryImport imports a layer; without knowing those below it may fail with
// errNeedsLower.
func (s *Store) tryImport(ctx context.Context, req *ImportRequest, below *[]string) (string, error) {
	id, err := s.imported(req, below)
	if id != "" || err != nil {
		return id, err
	}
	lock, err := s.store.Lock(ctx, "layer import "+req.Desc.Digest.String())
	if err != nil {
		return "", fmt.Errorf("lock layer %s: %w", req.Desc.Digest, err)
	}
	id, err = s.imported(req, below)
	if id == "" && err == nil {
		id, err = s.importLocked(ctx, req, below)
	}
	if unlocked := lock.Unlock(); err == nil {
		err = unlocked
	}
	return id, err
}

func (req *ImportRequest) check() error {
	if err := req.Desc.Digest.Validate(); err != nil {
		return fmt.Errorf("import layer %q: %w", req.Desc.Digest, err)
	}
	if req.DiffID == "" {
		return nil
	}
	if err := req.DiffID.Validate(); err != nil {
		return fmt.Errorf("import layer %s: diff ID %q: %w", req.Desc.Digest, req.DiffID, err)
	}
	if req.DiffID.Algorithm() != digest.SHA256 {
		return fmt.Errorf("import layer %s: diff ID %s: only sha256 is in use", req.Desc.Digest, req.DiffID)
	}
	return nil
}

func (s *Store) importLocked(ctx context.Context, req *ImportRequest, below *[]string) (string, error) {
	if below != nil {
		return s.importOnto(ctx, req, *below)
	}
	got, err := s.unpack(ctx, req, nil)
	if err != nil {
		return "", err
	}
	return got.commit(ctx, req, s.idOf(got.diffID))
}

// importOnto unpacks a layer that needs those below.
func (s *Store) importOnto(ctx context.Context, req *ImportRequest, parents []string) (string, error) {
	lower, err := s.view(ctx, parents)
	if err != nil {
		return "", fmt.Errorf("open the layers below: %w", err)
	}
	got, err := s.unpack(ctx, req, lower.root)
	if err := errors.Join(err, lower.close(ctx)); err != nil {
		return "", err
	}
	id, err := got.commit(ctx, req, s.chainIDOf(got.diffID, parents))
	if err != nil {
		return "", err
	}
	return id, s.store.PutRecord(Bucket, lowerKey(got.diffID), true, snapshot.Ref(id))
}

func (req *ImportRequest) parents(ctx context.Context) ([]string, error) {
	if req.Parents == nil {
		return nil, nil
	}
	return req.Parents(ctx)
}

// imported returns the id if the layer is there. It fails with errNeedsLower
// where the id depends on the layers below.
func (s *Store) imported(req *ImportRequest, below *[]string) (string, error) {
	if req.DiffID == "" {
		return "", nil
	}
	id := s.idOf(req.DiffID)
	if below != nil {
		id = s.chainIDOf(req.DiffID, *below)
	} else if known, err := s.store.GetRecord(Bucket, lowerKey(req.DiffID), nil); known || err != nil {
		return "", cmp.Or(err, errNeedsLower)
	}
	found, err := s.Hold(id)
	if !found || err != nil {
		return "", err
	}
	return id, s.noteBlob(req, id, req.DiffID, 0)
}

// noteBlob records the blob that a layer was unpacked from, unless there is a
// record of one that the store still has.
func (s *Store) noteBlob(req *ImportRequest, id string, diffID digest.Digest, size int64) error {
	r := record{}
	found, err := s.store.GetRecord(Bucket, pulledKey(id), &r)
	if err != nil {
		return err
	}
	if found && r.Pulled != nil {
		kept, err := s.holdBlob(*r.Pulled)
		if kept || err != nil {
			return err
		}
	}
	kept, err := s.holdBlob(req.Desc)
	if !kept || err != nil { // without a blob there is nothing to note
		return err
	}
	if size == 0 {
		size = r.Size
	}
	desc := ocispec.Descriptor{MediaType: req.Desc.MediaType, Digest: req.Desc.Digest, Size: req.Desc.Size}
	r = record{DiffID: diffID, Size: size, Pulled: &desc, Made: r.Made}
	return s.store.PutRecord(Bucket, pulledKey(id), r, r.refs(id)...)
}

// unpackedLayer is an active that holds an unpacked layer.
type unpackedLayer struct {
	s      *Store
	key    string
	diffID digest.Digest
	size   int64
}

// commit makes the active a layer.
func (u *unpackedLayer) commit(ctx context.Context, req *ImportRequest, id string) (string, error) {
	err := u.s.snaps.Commit(ctx, id, u.key)
	if errors.Is(err, snapshot.ErrExists) {
		_, err = u.s.Hold(id)
	}
	if err != nil {
		return "", fmt.Errorf("commit layer %s: %w", req.Desc.Digest, err)
	}
	return id, u.s.noteBlob(req, id, u.diffID, u.size)
}

// unpack unpacks the blob into a new active. It reads the blob to its end,
// where it is verified, also when that fails with errNeedsLower.
func (s *Store) unpack(ctx context.Context, req *ImportRequest, lower *rootfs.Root) (*unpackedLayer, error) {
	u := &unpackedLayer{s: s, key: s.newKey("import")}
	dir, err := s.snaps.NewLayer(ctx, u.key)
	if err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	result, err := u.fill(ctx, req, dir, lower)
	if err == nil && result.NeedsLower {
		err = errNeedsLower
	}
	if err == nil {
		err = u.verify(req)
	}
	if err != nil {
		removed := s.snaps.Remove(context.WithoutCancel(ctx), u.key)
		if removed != nil && errors.Is(err, errNeedsLower) {
			return nil, removed // it would be lost in the second attempt
		}
		return nil, errors.Join(err, removed)
	}
	if req.Warn != nil {
		for _, text := range result.Skipped {
			req.Warn(text)
		}
	}
	return u, nil
}

// verify checks what came out of the blob.
func (u *unpackedLayer) verify(req *ImportRequest) error {
	if req.DiffID != "" && u.diffID != req.DiffID {
		return fmt.Errorf("%w: layer %s has the diff ID %s, the config says %s", ErrDiffID, req.Desc.Digest, u.diffID, req.DiffID)
	}
	kept, err := u.s.holdBlob(req.Desc)
	if err != nil {
		return err
	}
	if !kept {
		return fmt.Errorf("%w: %s", ErrNotStored, req.Desc.Digest)
	}
	return nil
}

// fill unpacks the blob into dir.
func (u *unpackedLayer) fill(ctx context.Context, req *ImportRequest, dir string, lower *rootfs.Root) (ApplyResult, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	blob, err := u.s.openBlob(reading, req)
	if err != nil {
		return ApplyResult{}, err
	}
	src := &source{r: blob, cancel: stop}
	result, err := u.apply(ctx, src, dir, ApplyOptions{Lower: lower, Format: u.s.format})
	if err == nil { // the blob is verified, and kept, at its end
		_, err = io.Copy(io.Discard, src)
	}
	if failed := src.failed(); failed != nil {
		err = failed // the cause, whatever the decompressor made of it
	}
	return result, errors.Join(err, blob.Close())
}

func (u *unpackedLayer) apply(ctx context.Context, src *source, dir string, o ApplyOptions) (result ApplyResult, err error) {
	packed := newReadAhead(src)
	defer packed.Close()
	plain, _, err := Decompress(packed)
	if err != nil {
		src.stop()
		return ApplyResult{}, err
	}
	defer plain.Close()
	ahead := newReadAhead(plain)
	defer ahead.Close()
	defer func() {
		if err != nil { // a slow network is not waited for
			src.stop()
		}
	}()
	tar := &hashingReader{r: ahead, hash: sha256.New()}
	result, err = apply(ctx, tar, dir, o)
	u.diffID = digest.NewDigest(digest.SHA256, tar.hash)
	u.size = tar.size
	return result, err
}

// openBlob returns the blob: from the store, else from where it comes from.
func (s *Store) openBlob(ctx context.Context, req *ImportRequest) (io.ReadCloser, error) {
	found, err := s.holdBlob(req.Desc)
	if err != nil {
		return nil, err
	}
	if found {
		blob, err := s.store.OpenBlob(req.Desc.Digest)
		return &storedBlob{blob, s.store, req.Desc.Digest}, err
	}
	if req.Open == nil {
		return nil, fmt.Errorf("layer blob %s: %w", req.Desc.Digest, store.ErrNotFound)
	}
	return req.Open(ctx)
}

// storedBlob removes a blob that turns out damaged, so that it is fetched anew.
type storedBlob struct {
	*store.Blob
	store  *store.Store
	digest digest.Digest
}

func (b *storedBlob) Read(p []byte) (int, error) {
	n, err := b.Blob.Read(p)
	if errors.Is(err, store.ErrMismatch) {
		err = errors.Join(err, b.store.DeleteBlob(b.digest))
	}
	return n, err
}

// source remembers how a reader ended, and does not ask it again. stop makes a
// read that waits fail; what then comes is not remembered as the reader's end.
type source struct {
	r      io.Reader
	cancel context.CancelFunc

	mu      sync.Mutex
	stopped bool
	err     error
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	ended := s.err
	s.mu.Unlock()
	if ended != nil {
		return 0, ended
	}
	n, err := s.r.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.err = err
	}
	return n, err
}

func (s *source) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cancel()
}

// failed returns the error that ended the reading, unless that was the end.
func (s *source) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.err, io.EOF) {
		return nil
	}
	return s.err
}

// hashingReader computes the diff ID of what is read.
type hashingReader struct {
	r    io.Reader
	hash hash.Hash
	size int64
}

func (h *hashingReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.hash.Write(p[:n])
	h.size += int64(n)
	return n, err
}

// lowerView is an open view of layers.
type lowerView struct {
	s    *Store
	key  string // "" when there are no layers
	file *os.File
	root *rootfs.Root
}

// view opens the merged view of layers; of none, an empty directory.
func (s *Store) view(ctx context.Context, layers []string) (*lowerView, error) {
	v := &lowerView{s: s, key: s.newKey("view")}
	t, err := s.snaps.View(ctx, v.key, layers)
	if err != nil {
		return nil, err
	}
	if v.file, err = t.Open(); err == nil {
		v.root, err = rootfs.Open(v.file)
	}
	if err != nil {
		return nil, errors.Join(err, v.close(ctx))
	}
	return v, nil
}

func (v *lowerView) close(ctx context.Context) error {
	var err error
	if v.root != nil {
		err = v.root.Close()
	}
	if v.file != nil {
		err = errors.Join(err, v.file.Close())
	}
	return errors.Join(err, v.s.snaps.Remove(context.WithoutCancel(ctx), v.key))
}
