package layer

import (
	"context"
	"io"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Info describes a blob of a layer.
type Info struct {
	DiffID digest.Digest
	Desc   ocispec.Descriptor
}

// ImportRequest is a layer blob to unpack.
type ImportRequest struct {
	// Desc is the blob's descriptor; digest and size are verified.
	Desc ocispec.Descriptor
	// DiffID is the digest that the image config promises; "" accepts any.
	DiffID digest.Digest
	// Open returns the blob. It is not called when the store has it.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// Parents returns the layer IDs below, bottom first, waiting for their
	// import. It is called only when the layer cannot be unpacked without
	// them; nil means there are none.
	Parents func(ctx context.Context) ([]string, error)
}
