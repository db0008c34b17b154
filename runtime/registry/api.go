package registry

import (
	"context"
	"errors"
	"io"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Errors that callers tell apart with errors.Is. The error that wraps one of
// them says which host, what happened and what to do.
var (
	// ErrUnauthorized means that the registry wants other credentials.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrNotFound means that the repository, tag, manifest or blob is unknown.
	ErrNotFound = errors.New("not found")
	// ErrUnverified means that what the registry sent is not what was asked for.
	ErrUnverified = errors.New("content does not match its digest")
	// ErrBlocked means that registries.conf forbids the registry.
	ErrBlocked = errors.New("registry is blocked")
)

var errUnimplemented = errors.New("not yet written")

// ParseReference reads an image name as docker does: "debian" is
// docker.io/library/debian:latest.
func ParseReference(s string) (reference.Named, error) { return nil, errUnimplemented }

// Resolve asks what a reference stands for now.
func (c *Client) Resolve(ctx context.Context, ref reference.Named) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errUnimplemented
}

// Manifest fetches a manifest or an index, verified by the descriptor's digest
// and size.
func (c *Client) Manifest(ctx context.Context, ref reference.Named, desc ocispec.Descriptor) ([]byte, error) {
	return nil, errUnimplemented
}

// Bytes fetches a small blob, such as an image config, verified and bounded.
func (c *Client) Bytes(ctx context.Context, ref reference.Named, desc ocispec.Descriptor) ([]byte, error) {
	return nil, errUnimplemented
}

// Open returns a blob's bytes from offset on. The reader survives cuts and
// server errors by asking again from where it stands. When offset is 0 the
// digest is verified: the last Read returns ErrUnverified in the place of
// io.EOF; otherwise only the size is, and the caller verifies the whole.
func (c *Client) Open(ctx context.Context, ref reference.Named, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return nil, errUnimplemented
}

// Fetch writes a blob from offset on to w. It verifies as Open does.
func (c *Client) Fetch(ctx context.Context, ref reference.Named, desc ocispec.Descriptor, w io.Writer, offset int64) error {
	return errUnimplemented
}

// Blob is content on disk that is pushed.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Update is progress of one blob or manifest of a push.
type Update struct {
	Desc ocispec.Descriptor
	// Offset counts the bytes that were sent.
	Offset int64
	// State says how the blob came to be there, once it is.
	State UpdateState
}

// UpdateState is the state of one blob of a push.
type UpdateState int

// The states of a push.
const (
	// Uploading: bytes are on their way.
	Uploading UpdateState = iota
	// Uploaded: the registry has taken and verified it.
	Uploaded
	// Existing: the registry had it.
	Existing
	// Mounted: the registry took it over from another repository.
	Mounted
)

// PushRequest says what to push where.
type PushRequest struct {
	// Ref names the target; its tag, if any, is set last.
	Ref reference.Named
	// Desc is a manifest or an index.
	Desc ocispec.Descriptor
	// Open opens any blob below Desc, manifests too.
	Open func(digest.Digest) (Blob, error)
	// Sources names repositories that may hold a blob, to mount it from; those
	// of other registries are ignored. May be nil.
	Sources func(digest.Digest) []reference.Named
	// Progress is called from several goroutines. May be nil.
	Progress func(Update)
	// Jobs bounds the parallel uploads; 0 means 4.
	Jobs int
}

// Push uploads an image or an index with everything below it: blobs that the
// registry lacks in parallel, then manifests, then the index, then the tag.
func (c *Client) Push(ctx context.Context, req PushRequest) error { return errUnimplemented }

// Login verifies a user's name and password with the registry.
func (c *Client) Login(ctx context.Context, host, user, password string) error {
	return errUnimplemented
}

// Tags lists a repository's tags.
func (c *Client) Tags(ctx context.Context, repo reference.Named) ([]string, error) {
	return nil, errUnimplemented
}

// Catalog lists a registry's repositories.
func (c *Client) Catalog(ctx context.Context, host string) ([]string, error) {
	return nil, errUnimplemented
}

// Candidates returns what an image name may stand for: a name without a
// registry is looked for in the unqualified-search registries, in order, or on
// Docker Hub where none is configured.
func (c *Client) Candidates(name string) ([]reference.Named, error) { return nil, errUnimplemented }

// Credentials is what `login` saves for a host.
type Credentials struct {
	Host, User, Password string
}

// SaveCredentials keeps a login in a docker config.json, or in the credential
// helper that it names.
func SaveCredentials(configPath string, cred Credentials) error { return errUnimplemented }

// EraseCredentials removes a login; it returns false if there was none.
func EraseCredentials(configPath, host string) (bool, error) { return false, errUnimplemented }
