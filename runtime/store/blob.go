package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
)

// Blob is an open blob. Read it to the end to have it verified, or use
// ReadAt, which cannot verify.
type Blob struct {
	f    *os.File
	d    digest.Digest
	size int64
	read int64
	hash hash.Hash
}

// HasBlob returns the size of a blob that is in the store. It reads the blob
// only when a power loss may have damaged it.
func (s *Store) HasBlob(d digest.Digest) (size int64, ok bool) {
	_, size, err := s.findBlob(d)
	return size, err == nil
}

// BlobPath returns a blob's file, which must not be changed, or fails with
// ErrNotFound.
func (s *Store) BlobPath(d digest.Digest) (string, error) {
	path, _, err := s.findBlob(d)
	return path, err
}

// OpenBlob opens a blob, or fails with ErrNotFound.
func (s *Store) OpenBlob(d digest.Digest) (*Blob, error) {
	path, size, err := s.findBlob(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, blobNotFound(d)
	}
	if err != nil {
		return nil, err
	}
	return &Blob{f: f, d: d, size: size, hash: sha256.New()}, nil
}

// Size returns the blob's length.
func (b *Blob) Size() int64 { return b.size }

// Read returns the content. Together with the last byte it returns
// ErrMismatch when the content is not what the digest promised, so that a
// caller who reads exactly Size bytes gets to know it, too.
func (b *Blob) Read(p []byte) (int, error) {
	n, err := b.f.Read(p)
	b.read += int64(n)
	b.hash.Write(p[:n])
	if b.read == b.size && n > 0 || errors.Is(err, io.EOF) {
		if got := digest.NewDigest(digest.SHA256, b.hash); b.read != b.size || got != b.d {
			return n, fmt.Errorf("read blob %s: %w: the file holds %d of %d bytes, with digest %s",
				b.d, ErrMismatch, b.read, b.size, got)
		}
	}
	return n, err
}

// ReadAt reads without verifying.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }

// Close closes the blob.
func (b *Blob) Close() error { return b.f.Close() }

// findBlob returns a blob's file and size, if it counts.
func (s *Store) findBlob(d digest.Digest) (path string, size int64, err error) {
	name, err := blobName(d)
	if err != nil {
		return "", 0, err
	}
	path = s.path(dirBlobs, name)
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !fi.Mode().IsRegular() {
		return "", 0, blobNotFound(d)
	}
	if err != nil {
		return "", 0, err
	}
	stamp, err := os.Readlink(s.path(dirStamps, name))
	if err == nil && s.Trusts(Stamp(stamp)) {
		return path, fi.Size(), nil
	}
	size, err = s.vouch(d, name)
	return path, size, err
}

func blobNotFound(d digest.Digest) error { return fmt.Errorf("blob %s: %w", d, ErrNotFound) }

// vouch reads a blob of doubtful origin, and stamps it if it is intact. A
// damaged one stays where it is, not counting, until it is replaced or
// collected: removing it could hit a good one that is just coming in.
func (s *Store) vouch(d digest.Digest, name string) (int64, error) {
	f, err := os.Open(s.path(dirBlobs, name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, blobNotFound(d)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return 0, err
	}
	if hex.EncodeToString(h.Sum(nil)) != name {
		return 0, blobNotFound(d)
	}
	return size, s.Stamped(func(stamp Stamp) error { return s.stampBlob(name, stamp) })
}

// stampBlob marks a blob's file as good.
func (s *Store) stampBlob(name string, stamp Stamp) error {
	if err := s.unstampBlob(name); err != nil {
		return err
	}
	err := os.Symlink(string(stamp), s.path(dirStamps, name))
	if errors.Is(err, os.ErrExist) {
		return nil // another process stamped the same content just now
	}
	return s.Explain(err)
}

func (s *Store) unstampBlob(name string) error { return removeFile(s.path(dirStamps, name)) }

// DeleteBlob removes a blob, whoever refers to it. Collect is the way to
// remove blobs that nobody needs.
func (s *Store) DeleteBlob(d digest.Digest) error {
	name, err := blobName(d)
	if err != nil {
		return err
	}
	return errors.Join(s.unstampBlob(name), removeFile(s.path(dirBlobs, name)))
}

// removeFile removes a file, if it is there.
func removeFile(path string) error {
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
