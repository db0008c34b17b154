package layer

import (
	"context"
	"errors"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// Bucket holds one record per layer. Its records are store.Policy.Attached:
// they live as long as their layer, and keep the layer's blobs.
const Bucket = "layers"

// Options say how a Store writes and unpacks layers.
type Options struct {
	// Epoch is the upper bound of the times in layers that Strata makes. Zero
	// keeps times as they are.
	Epoch time.Time
	// SingleID is set when only one user id is mapped.
	SingleID bool
}

var errLanding = errors.New("layer: being written")

// Store relates layers (directories of the snapshotter) to diff IDs and blobs.
type Store struct{}

// NewStore returns the layer store over the two.
func NewStore(st *store.Store, sn snapshot.Snapshotter, o Options) *Store { return &Store{} }

// WithEpoch returns the same store that writes layers under another epoch.
func (s *Store) WithEpoch(t time.Time) *Store { return s }

// Have reports whether the layer is unpacked.
func (s *Store) Have(id string) bool { return false }

// DiffID returns the digest of the layer's uncompressed tar, making its blob
// where it is not known.
func (s *Store) DiffID(ctx context.Context, id string) (digest.Digest, error) {
	return "", errLanding
}

// Blob returns the layer's blob in the given compression, making it where
// there is none. A blob that came from a registry is reused whatever its
// compression, unless c.Force is set.
func (s *Store) Blob(ctx context.Context, id string, c Compression) (Info, error) {
	return Info{}, errLanding
}

// Import unpacks a layer blob and returns the layer's id. A layer that is
// unpacked already is not read again.
func (s *Store) Import(ctx context.Context, req ImportRequest) (id string, err error) {
	return "", errLanding
}

// Layer returns the directory of a layer.
func (s *Store) Layer(id string) (dir string, err error) { return "", errLanding }
