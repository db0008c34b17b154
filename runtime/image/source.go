package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/registry"
)

// Source supplies content that the store lacks. Everything it returns is
// verified: by the source, or where the reader says so by its consumer.
type Source interface {
	// Manifest returns a manifest or an index, verified.
	Manifest(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	// Config returns an image config, verified.
	Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	// Open returns a layer's bytes from offset on; the consumer verifies.
	Open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	// String names the source in messages.
	String() string
}

// RegistrySource supplies content from a repository.
func (s *Store) RegistrySource(ref reference.Named) Source {
	return registrySource{s.registry, ref}
}

type registrySource struct {
	client Registry
	ref    reference.Named
}

// Manifest implements Source.
func (r registrySource) Manifest(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return r.client.Manifest(ctx, r.ref, desc)
}

// Config implements Source.
func (r registrySource) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return r.client.Bytes(ctx, r.ref, desc)
}

// Open implements Source.
func (r registrySource) Open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return r.client.Open(ctx, r.ref, desc, offset)
}

// String implements Source.
func (r registrySource) String() string { return reference.FamiliarName(r.ref) }

// LayoutSource supplies content from an OCI layout directory.
func LayoutSource(dir string) Source { return layoutSource(dir) }

type layoutSource string

// open opens a blob as a regular file, whatever stands at its path.
func (l layoutSource) open(d digest.Digest) (*os.File, error) {
	if err := checkDescriptor(ocispec.Descriptor{Digest: d}); err != nil {
		return nil, err
	}
	f, err := openRegular(filepath.Join(string(l), ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()))
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("OCI layout %s has no blob %s: %w", string(l), d, ErrMissing)
	}
	return f, err
}

func (l layoutSource) read(desc ocispec.Descriptor) ([]byte, error) {
	f, err := l.open(desc.Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readAtMost(f, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, fmt.Errorf("OCI layout %s is damaged: blob %s has the content of %s: %w", string(l), desc.Digest, got, registry.ErrUnverified)
	}
	return data, nil
}

// Manifest implements Source.
func (l layoutSource) Manifest(_ context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return l.read(desc)
}

// Config implements Source.
func (l layoutSource) Config(_ context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return l.read(desc)
}

// Open implements Source.
func (l layoutSource) Open(_ context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	f, err := l.open(desc.Digest)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("read OCI layout: %w", err)
	}
	return f, nil
}

// String implements Source.
func (l layoutSource) String() string { return "OCI layout " + string(l) }

// openRegular opens a regular file, and does not wait for the writer of a FIFO.
// Links are followed, as some tools make layouts of links: what is read is
// verified by its digest, wherever it lies.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file: %w", path, ErrMalformed)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readAtMost reads all of r, if it is not more than limit.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: more than %d MiB", ErrMalformed, limit>>20)
	}
	return data, err
}
