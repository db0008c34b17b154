// Package httpsource resolves and downloads LLB http and https sources.
package httpsource

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/rootfs"
)

var errLanding = errors.New("httpsource: being written")

// ErrNoSecret is what Options.Secret returns for a secret that was not given.
var ErrNoSecret = errors.New("no such secret")

// Source is a parsed LLB http source.
type Source struct {
	// URL may hold credentials: never log it, log String().
	URL      string
	Checksum digest.Digest
	Filename string
	// Perm is 0 for the default (0600).
	Perm             uint32
	UID, GID         int
	AuthHeaderSecret string
	Header           []HeaderField
}

// HeaderField is a header that the source asks for.
type HeaderField struct{ Name, Value string }

// Parse reads an LLB source identifier ("https://…") and its attributes.
// Attributes that this package cannot honour are refused by name.
func Parse(identifier string, attrs map[string]string) (*Source, error) { return nil, errLanding }

// String is the URL without credentials.
func (s *Source) String() string { return "" }

// Blobs keeps what was downloaded; runtime/store has one.
type Blobs interface {
	// Open returns a verified blob; fs.ErrNotExist when it is not there.
	Open(ctx context.Context, d digest.Digest) (io.ReadCloser, error)
	// Create starts a blob.
	Create(ctx context.Context) (BlobWriter, error)
}

// BlobWriter receives a blob.
type BlobWriter interface {
	io.Writer
	// Commit makes the blob exist, when its digest is want ("" is any).
	Commit(ctx context.Context, want digest.Digest) (digest.Digest, error)
	// Close drops what was not committed.
	Close() error
}

// Records keeps what servers answered, by URL.
type Records interface {
	Get(ctx context.Context, key string, v any) (bool, error)
	Put(ctx context.Context, key string, v any, blob digest.Digest) error
}

// Options are what a Client works with.
type Options struct {
	Blobs   Blobs
	Records Records
	// Transport is http.DefaultTransport when nil.
	Transport http.RoundTripper
	// Secret returns a secret by id, or ErrNoSecret.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// UserAgent is sent where the source asks for none.
	UserAgent string
	// MaxSize bounds a download; 0 is 64 GiB.
	MaxSize int64
	// Retries bounds how often a cut connection or a server's 5xx is tried
	// again; 0 is 5. Wait pauses before the n-th retry; nil waits longer each
	// time.
	Retries int
	Wait    func(ctx context.Context, n int) error
	// Progress, when set, is told the bytes so far and in all (-1: unknown).
	Progress func(current, total int64)
}

// Client resolves and downloads sources.
type Client struct{ o Options }

// New returns a client.
func New(o Options) *Client { return &Client{o} }

// Resolved is what a source stands for now.
type Resolved struct {
	Digest   digest.Digest
	Filename string
	// LastModified is zero when the server does not tell.
	LastModified time.Time
}

// Resolve finds the content's digest: the checksum of the source when there is
// one, else what the server has now.
func (c *Client) Resolve(ctx context.Context, s *Source) (Resolved, error) {
	return Resolved{}, errLanding
}

// Key is the identity of the file that Fetch writes.
func (s *Source) Key(r Resolved) digest.Digest { return "" }

// Fetch writes the file into the empty directory dst.
func (c *Client) Fetch(ctx context.Context, s *Source, r Resolved, dst *rootfs.Root) error {
	return errLanding
}
