// Package store keeps what builds produce and reuse on disk: blobs by digest,
// records by key, and the locks, leases and collection around them.
package store

import (
	"context"
	"errors"
	"iter"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// Errors that callers tell apart.
var (
	// ErrNotFound says that a blob is not in the store.
	ErrNotFound = errors.New("not found in the store")
	// ErrExists says that a blob is in the store already.
	ErrExists = errors.New("already in the store")
	// ErrMismatch says that content is not what its digest or size promises.
	ErrMismatch = errors.New("content does not match")
	// ErrInvalidName says that a name cannot be a file name in the store.
	ErrInvalidName = errors.New("not a valid name")
)

// Options say where a store is.
type Options struct {
	// Root is the store's directory.
	Root string
	// BootID identifies this boot of the machine; empty reads the kernel's.
	BootID string
}

// Store is an open store. It is safe for concurrent use, also by several
// processes.
type Store struct{}

// Open opens the store at root with the machine's own boot id.
func Open(root string) (*Store, error) { return New(Options{Root: root}) }

// New opens a store, and creates it when there is none.
func New(o Options) (*Store, error) { return nil, errors.ErrUnsupported }

// Close gives up what belongs to this process: its temporary files, leases
// and locks.
func (s *Store) Close() error { return errors.ErrUnsupported }

// Root returns the store's directory.
func (s *Store) Root() string { return "" }

// Dir returns the sub-directory name, for another package's own use.
func (s *Store) Dir(name string) (string, error) { return "", errors.ErrUnsupported }

// ValidName reports whether name is safe as one path element: letters,
// digits, '.', '_' and '-', up to 128 of them, and no leading '.' or '-'.
func ValidName(name string) error { return errors.ErrUnsupported }

// TempDir makes a new directory that belongs to this process: it is removed
// with Close, or by the next Reap after the process died.
func (s *Store) TempDir() (string, error) { return "", errors.ErrUnsupported }

// TempFile makes a new file under the same rule as TempDir.
func (s *Store) TempFile() (*os.File, error) { return nil, errors.ErrUnsupported }

// Owner returns the name under which this process owns things in the store.
func (s *Store) Owner() (string, error) { return "", errors.ErrUnsupported }

// OwnerAlive reports whether the process behind an owner name still lives.
func (s *Store) OwnerAlive(owner string) (bool, error) { return false, errors.ErrUnsupported }

// Reap removes what dead processes left behind.
func (s *Store) Reap(ctx context.Context) error { return errors.ErrUnsupported }

// Ref names a thing that a record or lease keeps: "layer:<id>",
// "blob:sha256:<hex>", "record:<bucket>/<key>".
type Ref string

// BlobRef returns the ref of a blob.
func BlobRef(d digest.Digest) Ref { return Ref("blob:" + d.String()) }

// RecordRef returns the ref of a record.
func RecordRef(bucket, key string) Ref { return Ref("record:" + bucket + "/" + key) }

// Stamp says when something was written, as far as power loss is concerned.
type Stamp string

// Stamped runs fn under the shared lock; what fn puts in place, carrying the
// stamp, counts until the next boot, and beyond it after a Sync.
func (s *Store) Stamped(fn func(Stamp) error) error { return errors.ErrUnsupported }

// Trusts reports whether what carries the stamp survived every power loss
// since.
func (s *Store) Trusts(st Stamp) bool { return false }

// Sync writes everything made so far to the disk and marks it as durable.
func (s *Store) Sync(ctx context.Context) error { return errors.ErrUnsupported }

// Unsynced reports whether this process wrote something that no Sync covers.
func (s *Store) Unsynced() bool { return false }

// Blob is an open blob.
type Blob struct{}

// Read returns the content; at the end it fails with ErrMismatch when the
// content is not what the digest promised.
func (b *Blob) Read(p []byte) (int, error) { return 0, errors.ErrUnsupported }

// ReadAt reads without verifying.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) { return 0, errors.ErrUnsupported }

// Size returns the blob's length.
func (b *Blob) Size() int64 { return 0 }

// Close closes the blob.
func (b *Blob) Close() error { return nil }

// HasBlob returns the size of a blob that is in the store.
func (s *Store) HasBlob(d digest.Digest) (size int64, ok bool) { return 0, false }

// OpenBlob opens a blob, or fails with ErrNotFound.
func (s *Store) OpenBlob(d digest.Digest) (*Blob, error) { return nil, errors.ErrUnsupported }

// BlobPath returns a blob's file, or fails with ErrNotFound.
func (s *Store) BlobPath(d digest.Digest) (string, error) { return "", errors.ErrUnsupported }

// DeleteBlob removes a blob, whoever refers to it.
func (s *Store) DeleteBlob(d digest.Digest) error { return errors.ErrUnsupported }

// BlobWriter takes a blob's content.
type BlobWriter struct{}

// NewBlob starts a blob of any content.
func (s *Store) NewBlob(ctx context.Context) (*BlobWriter, error) { return nil, errors.ErrUnsupported }

// ResumeBlob starts or continues a blob whose digest is known, from the
// returned offset. It waits for another process that is writing the same
// one, and fails with ErrExists when the blob is there.
func (s *Store) ResumeBlob(ctx context.Context, d digest.Digest) (w *BlobWriter, offset int64, err error) {
	return nil, 0, errors.ErrUnsupported
}

// Write appends content.
func (w *BlobWriter) Write(p []byte) (int, error) { return 0, errors.ErrUnsupported }

// Commit verifies the content and puts it into the store. An empty want and
// a size of -1 accept any. Anything else than the promised content fails
// with ErrMismatch, and is dropped.
func (w *BlobWriter) Commit(ctx context.Context, want digest.Digest, size int64) (digest.Digest, int64, error) {
	return "", 0, errors.ErrUnsupported
}

// Close ends the writing; without a Commit the content is dropped, or kept
// for the next ResumeBlob.
func (w *BlobWriter) Close() error { return nil }

// Discard drops the content, also of a resumable blob.
func (w *BlobWriter) Discard() error { return nil }

// Entry is a record as Records lists it.
type Entry struct {
	Bucket, Key       string
	Refs              []Ref
	Created, LastUsed time.Time
}

// Decode unmarshals the record's value.
func (e Entry) Decode(v any) error { return errors.ErrUnsupported }

// GetRecord reads a record into v; a missing, damaged or untrusted one
// counts as a miss.
func (s *Store) GetRecord(bucket, key string, v any) (bool, error) {
	return false, errors.ErrUnsupported
}

// PutRecord writes a record, which keeps refs from collection.
func (s *Store) PutRecord(bucket, key string, v any, refs ...Ref) error {
	return errors.ErrUnsupported
}

// DeleteRecord removes a record, if there is one.
func (s *Store) DeleteRecord(bucket, key string) error { return errors.ErrUnsupported }

// TouchRecord marks a record as used now.
func (s *Store) TouchRecord(bucket, key string) {}

// Records lists a bucket, in no order.
func (s *Store) Records(bucket string) iter.Seq2[Entry, error] {
	return func(func(Entry, error) bool) {}
}

// Buckets lists the buckets that exist.
func (s *Store) Buckets() ([]string, error) { return nil, errors.ErrUnsupported }

// Lock is a held lock.
type Lock struct{}

// Lock waits for the lock called name.
func (s *Store) Lock(ctx context.Context, name string) (*Lock, error) {
	return nil, errors.ErrUnsupported
}

// TryLock takes the lock called name if nobody holds it.
func (s *Store) TryLock(name string) (*Lock, bool, error) { return nil, false, errors.ErrUnsupported }

// Unlock releases the lock.
func (l *Lock) Unlock() error { return nil }

// Holder says who holds a lock.
type Holder struct {
	PID     int
	Command string
}

// Holder returns who holds the lock called name, for a message.
func (s *Store) Holder(name string) (Holder, bool) { return Holder{}, false }

// Lease keeps things from collection for as long as its process lives.
type Lease struct{}

// NewLease makes an empty lease.
func (s *Store) NewLease(ctx context.Context) (*Lease, error) { return nil, errors.ErrUnsupported }

// Add keeps refs, which need not exist yet.
func (l *Lease) Add(refs ...Ref) error { return errors.ErrUnsupported }

// Close lets go of everything.
func (l *Lease) Close() error { return nil }

// Acquire runs fn while no collection runs: what fn finds and leases stays.
func (s *Store) Acquire(fn func() error) error { return errors.ErrUnsupported }

// LeaseMade adds refs to the lease of what this process makes: blobs and
// layers enter it when they are committed.
func (s *Store) LeaseMade(refs ...Ref) error { return errors.ErrUnsupported }

// ReleaseMade ends the lease of what this process made so far.
func (s *Store) ReleaseMade() error { return errors.ErrUnsupported }

// Owner holds a kind of objects that records refer to, and that Collect
// removes.
type Owner interface {
	// Prefix is the refs' prefix with the colon, such as "layer:".
	Prefix() string
	// IDs lists the objects.
	IDs(ctx context.Context) iter.Seq2[string, error]
	// Size returns an object's size on disk.
	Size(ctx context.Context, id string) (int64, error)
	// Remove removes an object; it must not take the store's shared lock.
	Remove(ctx context.Context, id string) error
}

// Filter selects what a collection may drop; the zero Filter selects all.
type Filter struct {
	// Until selects what was last used longer ago than this.
	Until time.Duration
	// IDs selects keys and refs; Types selects buckets.
	IDs, Types []string
}

// ParseFilter reads filters in the form "until=24h", "id=…", "type=…".
func ParseFilter(exprs []string) (Filter, error) { return Filter{}, errors.ErrUnsupported }

// Policy says what a collection keeps.
type Policy struct {
	// Roots are the buckets whose records stay, with all they refer to.
	Roots []string
	// Caches are the buckets whose records may be dropped, the least recently
	// used first.
	Caches []string
	// Attached are the buckets whose records live as long as their first ref.
	Attached []string
	// KeepBytes is the size that the store may keep; 0 is no cap, or with All
	// nothing.
	KeepBytes int64
	// All drops cache records whether or not there is a cap.
	All bool
	// Filter restricts what is dropped.
	Filter Filter
}

// Item is a thing in the store.
type Item struct {
	Ref               Ref
	Type              string
	Size              int64
	Created, LastUsed time.Time
	InUse             bool
}

// Report says what a collection removed.
type Report struct {
	Removed []Item
	Bytes   int64
	Kept    int64
}

// Usage says what is in the store.
type Usage struct {
	Items              []Item
	Total, Reclaimable int64
}

// Collect removes what the policy does not keep.
func (s *Store) Collect(ctx context.Context, p Policy, owners ...Owner) (Report, error) {
	return Report{}, errors.ErrUnsupported
}

// Usage lists what is in the store.
func (s *Store) Usage(ctx context.Context, p Policy, owners ...Owner) (Usage, error) {
	return Usage{}, errors.ErrUnsupported
}
