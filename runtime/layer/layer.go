// Package layer turns layer directories into tar blobs and back.
package layer

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

var errLanding = errors.New("layer: being written")

// Override is the intended owner, mode and device of an inode; see tree.
type Override = tree.Override

// OverrideXattr is the extended attribute that holds it.
const OverrideXattr = tree.OverrideXattr

// Type names a compression.
type Type string

// The compressions that layers are written in.
const (
	Gzip Type = "gzip"
	Zstd Type = "zstd"
	None Type = "none"
)

// Compression says how a blob is compressed. The zero value is gzip at the
// default level.
type Compression struct {
	Type Type
	// Level is the compressor's own scale (gzip 1 to 9, zstd 1 to 22); 0 is
	// the default.
	Level int
	// Force makes a blob of this type and level even where the layer came
	// from a registry in another one.
	Force bool
}

// MediaType is the OCI media type of a layer of this compression.
func (c Compression) MediaType() string { return "" }

// WriteOptions say how WriteTar reads a layer directory.
type WriteOptions struct {
	// Epoch is the upper bound of the times written; zero keeps them.
	Epoch time.Time
	tree.Format
}

// WriteTar writes the layer directory dir as an uncompressed layer tar.
func WriteTar(ctx context.Context, w io.Writer, dir string, o WriteOptions) error { return errLanding }

// FlattenTar writes the merged view of layer directories, bottom first, as a
// plain tar without whiteouts.
func FlattenTar(ctx context.Context, w io.Writer, layers []string, o WriteOptions) error {
	return errLanding
}

// ApplyOptions say how Apply unpacks.
type ApplyOptions struct {
	// Lower is the merged view of the layers below; nil when it is not known
	// (yet). See ApplyResult.NeedsLower.
	Lower *rootfs.Root
	tree.Format
}

// ApplyResult tells what Apply did.
type ApplyResult struct {
	// NeedsLower is set when the layer cannot be unpacked without the layers
	// below (implied parent directories, hard links into them). The directory
	// is then unfinished: empty it and apply again with Lower.
	NeedsLower bool
	// Size is the sum of the file sizes.
	Size int64
	// Entries counts the tar entries.
	Entries int64
}

// Apply unpacks a layer tar (compressed or not) into the layer directory dir.
func Apply(ctx context.Context, r io.Reader, dir string, o ApplyOptions) (ApplyResult, error) {
	return ApplyResult{}, errLanding
}

// Decompress returns the uncompressed stream of r (gzip, zstd, xz, bzip2 or
// plain, by its first bytes), and the name of what it found. Close does not
// close r.
func Decompress(r io.Reader) (io.ReadCloser, string, error) { return nil, "", errLanding }

// CompareRequest and Compare: see tree.Compare.
type CompareRequest = tree.CompareRequest

// Compare writes the difference of two trees as a layer directory.
func Compare(ctx context.Context, req CompareRequest) error { return tree.Compare(ctx, req) }

// ChangeKind says what happened to a path.
type ChangeKind byte

// The kinds of changes, by the letter that `diff` shows.
const (
	Added    ChangeKind = 'A'
	Modified ChangeKind = 'C'
	Deleted  ChangeKind = 'D'
)

// Change is one path that a layer adds, modifies or deletes.
type Change struct {
	Kind ChangeKind
	Path string // absolute
	Mode uint32
	Size int64
}

// Changes lists what the layer directory dir changes on the merged view of
// the layer directories lower (bottom first), in walk order.
func Changes(ctx context.Context, dir string, lower []string, f tree.Format) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) { yield(Change{}, errLanding) }
}

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
