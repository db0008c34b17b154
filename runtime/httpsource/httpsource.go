// Package httpsource resolves and downloads LLB http and https sources.
//
// A source with a checksum is known without a look at the network. For any
// other one the server is asked each time, with the ETag (or the modification
// time) of what was downloaded before: mostly it answers that nothing changed.
//
//	Resolve ── checksum ───────────────────────────────────────▶ digest
//	        └─ GET, If-None-Match ─┬─ 304, or the same ETag ───▶ digest on record
//	                               └─ 200 ──▶ blob ──▶ record ─▶ new digest
//	Fetch ──── blob (downloaded and verified, when it is missing) ──▶ file
//
// A connection that is cut is taken up where it ended, if the server says that
// the file is still the same (If-Range), or if the checksum will tell.
//
// URLs can hold credentials, and those that a server redirects to often do:
// messages name the source without them, and no other URL.
package httpsource

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// ErrNoSecret is what Options.Secret returns for a secret that was not given.
var ErrNoSecret = errors.New("no such secret")

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

const (
	defaultMaxSize = 64 << 30
	defaultRetries = 5
)

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
	// again without progress; 0 is 5, and a negative number none. Wait pauses
	// before the n-th retry; nil waits longer each time.
	Retries int
	Wait    func(ctx context.Context, n int) error
	// Progress, when set, is told the bytes so far and in all (-1: unknown).
	Progress func(current, total int64)
	// SingleID is set when only one user id is mapped: owners are recorded as
	// overrides.
	SingleID bool
}

// Client resolves and downloads sources. It is safe for concurrent use.
type Client struct{ o Options }

// New returns a client.
func New(o Options) *Client {
	if o.MaxSize == 0 {
		o.MaxSize = defaultMaxSize
	}
	if o.Retries == 0 {
		o.Retries = defaultRetries
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	if o.UserAgent == "" {
		o.UserAgent = "strata"
	}
	return &Client{o}
}

// wait pauses for 0.2 s, 0.4 s, 0.8 s and so on, up to 10 s.
func wait(ctx context.Context, n int) error {
	pause := min(100*time.Millisecond<<min(n, 10), 10*time.Second)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Resolved is what a source stands for now.
type Resolved struct {
	Digest   digest.Digest
	Filename string
	// LastModified is zero when the server does not tell, and for a source
	// with a checksum, which must not depend on the server.
	LastModified time.Time
}
