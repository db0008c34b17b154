// Package registry speaks the OCI distribution protocol as a client: it
// resolves names, fetches manifests and blobs, pushes images, logs in.
//
// # Where a request goes
//
//	reference ──registries.conf──▶ endpoints: mirror 1, mirror 2, …, the registry
//	endpoint  ──ping, token────▶ session:   one per host, repository and action
//	session   ──retry──────────▶ request
//
// A pull asks the endpoints in order and takes the first that answers; what
// the earlier ones said is kept for the error message. A push goes to the
// registry itself, never to a mirror. go-containerregistry does the handshake
// (ping, basic, bearer, refresh); everything above it is here, because blobs
// must be resumable, ranged and verified while they are streamed.
//
// # What is trusted
//
// Nothing that a registry sends is taken for what it says: manifests and blobs
// are verified by digest and size while they are read, and a reader reports a
// mismatch as an error in the place of io.EOF. A host that answers https is
// never asked over http, and only loopback hosts and those listed as insecure
// are asked over http at all. Credentials never reach an error or a log.
package registry

import (
	"context"
	"net/http"
	"time"
)

// Options configures a Client. The zero value is an anonymous client without
// mirrors.
type Options struct {
	// ConfigPaths are docker config.json files; the first that knows
	// credentials for a host wins. Missing files are skipped.
	ConfigPaths []string
	// RegistriesConf are registries.conf files of version 2; later files
	// override earlier ones by prefix. Missing files are skipped.
	RegistriesConf []string
	// CertDirs hold per-host directories with *.crt, client.cert and
	// client.key, as /etc/docker/certs.d does.
	CertDirs []string
	// Insecure lists hosts (host or host:port) and networks (CIDR) that may
	// be spoken to without a valid certificate, or over plain http. Loopback
	// hosts always may.
	Insecure []string
	// UserAgent is sent with each request.
	UserAgent string
	// Transport replaces the network, for tests. CertDirs do not apply to it.
	Transport http.RoundTripper
	// Attempts is how often a request is tried; 0 means 5.
	Attempts int
	// Backoff is the wait before the n-th retry, n counting from 1; nil means
	// a growing wait with jitter, below ten seconds.
	Backoff func(n int) time.Duration
	// Connections bounds the ranged connections for one big blob; 0 means 4.
	Connections int
	// RangeSize is the size of a ranged request; 0 means 8 MiB. A blob is
	// fetched over several connections when it is larger than four of these.
	RangeSize int64
}

// Client talks to registries. It is safe for concurrent use, and holds tokens
// and connections for as long as it lives.
type Client struct {
	opts Options
}

// New reads the configuration files and returns a client.
func New(opts Options) (*Client, error) {
	return &Client{opts: opts}, nil
}

// wait sleeps for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
