package layer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

// Bucket holds what is known about layers. Its records are
// store.Policy.Attached: they live as long as their layer, and keep the layer's
// blobs.
const Bucket = "layers"

var (
	// ErrDiffID says that a layer's content is not what the image's config
	// promises.
	ErrDiffID = errors.New("layer content does not match the image config")
	// ErrNotStored says that a blob was read, but is not in the store.
	ErrNotStored = errors.New("the blob is not in the store after it was read")
	// ErrGone says that the blob of a pulled layer was removed, and that the
	// unpacked layer does not give the same bytes again.
	ErrGone = errors.New("the layer's blob was removed from the store: pull the image again")
)

// Options say how a Store writes and unpacks layers.
type Options struct {
	// Epoch is the upper bound of the times in layers that Strata makes. Zero
	// keeps times as they are.
	Epoch time.Time
	// SingleID is set when only one user id is mapped.
	SingleID bool
}

// Store relates layers (directories of the snapshotter) to diff IDs and blobs.
// It is safe for concurrent use, also by several processes: a layer is unpacked,
// and a blob made, by one of them, while the others wait.
type Store struct {
	store  *store.Store
	snaps  snapshot.Snapshotter
	format tree.Format
	epoch  time.Time
	keys   *atomic.Int64 // of actives
}

// NewStore returns the layer store over the two.
func NewStore(st *store.Store, sn snapshot.Snapshotter, o Options) *Store {
	return &Store{
		store:  st,
		snaps:  sn,
		format: tree.Format{UserXattr: sn.UserXattr(), SingleID: o.SingleID},
		epoch:  o.Epoch,
		keys:   new(atomic.Int64),
	}
}

// WithEpoch returns the same store that writes layers under another epoch.
func (s *Store) WithEpoch(t time.Time) *Store {
	other := *s
	other.epoch = t
	return &other
}

// Format is the one that the store's layers are in.
func (s *Store) Format() tree.Format { return s.format }

// Have reports whether the layer is unpacked.
func (s *Store) Have(id string) bool {
	_, err := s.snaps.Layer(id)
	return err == nil
}

// Layer returns the directory of a layer.
func (s *Store) Layer(id string) (dir string, err error) { return s.snaps.Layer(id) }

// Info describes a blob of a layer.
type Info struct {
	DiffID digest.Digest
	// Desc has media type, digest and size of the blob, which is in the store.
	Desc ocispec.Descriptor
}

// record is what is known about a layer: about a pulled one, whatever the
// epoch; about one that Strata made, under one epoch.
type record struct {
	DiffID digest.Digest
	// Size is that of the uncompressed tar.
	Size int64
	// Pulled is the blob that the layer was unpacked from.
	Pulled *ocispec.Descriptor `json:",omitempty"`
	// Made are the blobs that Strata made, by compression.
	Made map[string]ocispec.Descriptor `json:",omitempty"`
}

// refs are what the record keeps: the layer first, which it is attached to.
func (r *record) refs(id string) []store.Ref {
	refs := []store.Ref{snapshot.Ref(id)}
	if r.Pulled != nil {
		refs = append(refs, store.BlobRef(r.Pulled.Digest))
	}
	for _, d := range r.Made {
		refs = append(refs, store.BlobRef(d.Digest))
	}
	return refs
}

// pulledKey and madeKey are the keys of the two kinds of records.
func pulledKey(id string) string { return id }

func (s *Store) madeKey(id string) string {
	if s.epoch.IsZero() {
		return id + "@"
	}
	return id + "@" + strconv.FormatInt(s.epoch.Unix(), 10)
}

// lowerKey is the key of the note that a layer needs those below.
func lowerKey(diffID digest.Digest) string { return "lower " + diffID.String() }

// lookUp returns what is known about a layer, and its record's key.
func (s *Store) lookUp(id string) (*record, string, error) {
	for _, key := range []string{pulledKey(id), s.madeKey(id)} {
		r := &record{}
		found, err := s.store.GetRecord(Bucket, key, r)
		if err != nil {
			return nil, "", fmt.Errorf("look up layer %s: %w", id, err)
		}
		if found && r.DiffID.Validate() == nil {
			return r, key, nil
		}
	}
	return nil, s.madeKey(id), nil
}

// hold keeps a layer or blob from collection if there reports that it exists.
func (s *Store) hold(there func() bool, refs ...store.Ref) (bool, error) {
	found := false
	err := s.store.Acquire(func() error {
		if found = there(); !found {
			return nil
		}
		return s.store.LeaseMade(refs...)
	})
	if err != nil {
		return false, fmt.Errorf("keep %v from collection: %w", refs, err)
	}
	return found, nil
}

// Hold keeps a layer from collection while this process lives, if it is
// unpacked.
func (s *Store) Hold(id string) (bool, error) {
	return s.hold(func() bool { return s.Have(id) }, snapshot.Ref(id))
}

// holdBlob keeps a blob, if it is in the store.
func (s *Store) holdBlob(desc ocispec.Descriptor) (bool, error) {
	return s.hold(func() bool {
		size, ok := s.store.HasBlob(desc.Digest)
		return ok && size == desc.Size
	}, store.BlobRef(desc.Digest))
}

// The ids of unpacked layers. Those that do not depend on what is below are
// named by their diff ID; the others by the whole chain. Layers with overrides
// for owners are not those that a user with more ids can use.
func (s *Store) idOf(diffID digest.Digest) string {
	return s.idPrefix("d") + diffID.Encoded()
}

func (s *Store) chainIDOf(diffID digest.Digest, parents []string) string {
	chain := digest.FromString(strings.Join(append(parents[:len(parents):len(parents)], diffID.String()), "\n"))
	return s.idPrefix("c") + chain.Encoded()
}

func (s *Store) idPrefix(kind string) string {
	if s.format.SingleID {
		return "s" + kind
	}
	return kind
}

// newKey names an active of this process.
func (s *Store) newKey(what string) string {
	return "layer " + what + " " + strconv.FormatInt(s.keys.Add(1), 10)
}

// DiffID returns the digest of the layer's uncompressed tar, making its blob
// where the digest is not known.
func (s *Store) DiffID(ctx context.Context, id string) (digest.Digest, error) {
	r, _, err := s.lookUp(id)
	if err != nil {
		return "", err
	}
	if r != nil {
		return r.DiffID, nil
	}
	info, err := s.Blob(ctx, id, Compression{})
	return info.DiffID, err
}
