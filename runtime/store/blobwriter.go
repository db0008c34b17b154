package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
)

// BlobWriter takes a blob's content. It does not buffer: give it large
// pieces. It must not be used concurrently.
type BlobWriter struct {
	s    *Store
	ctx  context.Context
	f    *os.File
	hash hash.Hash
	size int64
	// lock and want are set when the download can be resumed.
	lock *Lock
	want digest.Digest
	// done is set when the file is no longer the writer's.
	done bool
}

// NewBlob starts a blob. Writing fails when ctx ends.
func (s *Store) NewBlob(ctx context.Context) (*BlobWriter, error) {
	f, err := s.TempFile()
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	return &BlobWriter{s: s, ctx: ctx, f: f, hash: sha256.New()}, nil
}

// ResumeBlob starts a blob whose digest is known, or continues where an
// earlier attempt, of any process, ended: the caller provides the content
// from offset on. It waits while another process writes the same blob, and
// fails with ErrExists when the blob is there.
func (s *Store) ResumeBlob(ctx context.Context, d digest.Digest) (w *BlobWriter, offset int64, err error) {
	name, err := blobName(d)
	if err != nil {
		return nil, 0, err
	}
	lock, err := s.Lock(ctx, "ingest "+name)
	if err != nil {
		return nil, 0, fmt.Errorf("resume blob %s: %w", d, err)
	}
	w = &BlobWriter{s: s, ctx: ctx, hash: sha256.New(), lock: lock, want: d}
	if err := w.resume(name); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("resume blob %s: %w", d, err), w.Close())
	}
	return w, w.size, nil
}

// resume opens what is there, and reads it, as the hash must go on from it.
func (w *BlobWriter) resume(name string) error {
	if _, ok := w.s.HasBlob(w.want); ok {
		return ErrExists
	}
	f, err := os.OpenFile(w.s.path(dirIngest, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return w.s.Explain(err)
	}
	w.f = f
	w.size, err = io.Copy(w.hash, readerFunc(func(p []byte) (int, error) {
		if err := w.ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(p)
	}))
	return err
}

type readerFunc func(p []byte) (int, error)

func (r readerFunc) Read(p []byte) (int, error) { return r(p) }

// Write appends content.
func (w *BlobWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.f == nil {
		return 0, fmt.Errorf("write blob: %w", os.ErrClosed)
	}
	n, err := w.f.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write blob: %w", w.s.Explain(err))
	}
	return n, nil
}

// Size returns how much content there is so far.
func (w *BlobWriter) Size() int64 { return w.size }

// Commit verifies the content and puts it into the store; the process then
// leases it (see LeaseMade). An empty want and a size of -1 accept any.
// Content that is not what was promised fails with ErrMismatch and is
// dropped. Close is still to be called.
func (w *BlobWriter) Commit(ctx context.Context, want digest.Digest, size int64) (digest.Digest, int64, error) {
	got := digest.NewDigest(digest.SHA256, w.hash)
	if err := w.verify(got, want, size); err != nil {
		return "", 0, errors.Join(fmt.Errorf("commit blob: %w", err), w.Discard())
	}
	if err := ctx.Err(); err != nil {
		return "", 0, err
	}
	if err := w.place(got); err != nil {
		return "", 0, fmt.Errorf("commit blob %s: %w", got, err)
	}
	return got, w.size, nil
}

func (w *BlobWriter) verify(got, want digest.Digest, size int64) error {
	if w.done {
		return errors.New("the writer is closed")
	}
	if size >= 0 && size != w.size {
		return fmt.Errorf("%w: %d bytes, expected %d", ErrMismatch, w.size, size)
	}
	for _, d := range []digest.Digest{want, w.want} {
		if d != "" && d != got {
			return fmt.Errorf("%w: digest %s, expected %s", ErrMismatch, got, d)
		}
	}
	return nil
}

// place renames the file to its digest, then stamps it: in this order, so
// that there is never a stamp beside content that it was not made for.
func (w *BlobWriter) place(d digest.Digest) error {
	name, err := blobName(d)
	if err != nil {
		return err
	}
	if err := w.f.Chmod(0o444); err != nil {
		return err
	}
	return w.s.Stamped(func(stamp Stamp) error {
		if err := w.s.LeaseMade(BlobRef(d)); err != nil {
			return err
		}
		if _, ok := w.s.HasBlob(d); ok {
			return w.Discard()
		}
		if err := w.s.unstampBlob(name); err != nil {
			return err
		}
		if err := os.Rename(w.f.Name(), w.s.path(dirBlobs, name)); err != nil {
			return w.s.Explain(err)
		}
		w.done = true
		return w.s.stampBlob(name, stamp)
	})
}

// Close ends the writing. Without a Commit the content is dropped, or kept
// for the next ResumeBlob of the same digest.
func (w *BlobWriter) Close() error {
	if w.lock == nil {
		return w.Discard()
	}
	return w.release()
}

// Discard ends the writing and drops the content, also what could be resumed.
func (w *BlobWriter) Discard() error {
	var err error
	if w.f != nil && !w.done {
		err = removeFile(w.f.Name())
		w.done = true
	}
	return errors.Join(err, w.release())
}

// release gives up the file and the lock; calling it again does nothing.
func (w *BlobWriter) release() error {
	var errs []error
	if w.f != nil {
		errs = append(errs, w.f.Close())
		w.f, w.done = nil, true
	}
	if w.lock != nil {
		errs = append(errs, w.lock.Unlock())
		w.lock = nil
	}
	return errors.Join(errs...)
}
