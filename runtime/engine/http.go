package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/httpsource"
	"github.com/strata-build/strata/runtime/store"
)

// httpBlobs keeps downloads as blobs of the store.
type httpBlobs struct{ st *store.Store }

// Open implements httpsource.Blobs.
func (b httpBlobs) Open(_ context.Context, d digest.Digest) (io.ReadCloser, error) {
	blob, err := b.st.OpenBlob(d)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return blob, err
}

// Create implements httpsource.Blobs.
func (b httpBlobs) Create(ctx context.Context) (httpsource.BlobWriter, error) {
	w, err := b.st.NewBlob(ctx)
	return httpBlob{w}, err
}

type httpBlob struct{ *store.BlobWriter }

// Commit implements httpsource.BlobWriter.
func (b httpBlob) Commit(ctx context.Context, want digest.Digest) (digest.Digest, error) {
	d, _, err := b.BlobWriter.Commit(ctx, want, -1)
	return d, err
}

// BucketHTTP holds what servers answered, by URL.
const BucketHTTP = "http"

type httpRecords struct{ st *store.Store }

// Get implements httpsource.Records.
func (r httpRecords) Get(_ context.Context, key string, v any) (bool, error) {
	return r.st.GetRecord(BucketHTTP, key, v)
}

// Put implements httpsource.Records.
func (r httpRecords) Put(_ context.Context, key string, v any, blob digest.Digest) error {
	return r.st.PutRecord(BucketHTTP, key, v, store.BlobRef(blob))
}
