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
// Nothing that a registry sends is taken for what it says: manifests, configs
// and whole blobs are verified by digest and size. Only a blob that is opened
// as a stream is its reader's to verify, since it is hashed again on its way to
// the disk. A host is asked over plain http only if it is on the loopback or
// listed as insecure. Credentials never reach an error.
package registry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
)

// Options configures a Client. The zero value is an anonymous client without
// mirrors.
type Options struct {
	// ConfigPaths are docker config.json files; the first that knows
	// credentials for a host wins. Missing files are skipped.
	ConfigPaths []string
	// RegistriesConf are registries.conf files of version 2, or directories of
	// *.conf files; later ones override earlier ones by prefix. Missing files
	// are skipped.
	RegistriesConf []string
	// CertDirs hold per-host directories with *.crt, *.cert and *.key, as
	// /etc/docker/certs.d does.
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
	// Stall is how long a connection may deliver nothing before it counts as
	// cut; 0 means one minute.
	Stall time.Duration
	// Connections bounds the ranged connections for one big blob; 0 means 4.
	Connections int
	// RangeSize is the size of a ranged request; 0 means 8 MiB. A blob is
	// fetched over several connections when it is larger than four of these.
	RangeSize int64
}

// Client talks to registries. It is safe for concurrent use, and holds tokens
// and connections for as long as it lives.
type Client struct {
	opts     Options
	conf     *conf
	keys     *keychain
	hosts    *hosts
	sessions sessionCache

	mu    sync.Mutex
	wrong map[wrongAnswer]bool
}

// New reads the configuration files and returns a client.
func New(opts Options) (*Client, error) {
	opts = opts.withDefaults()
	conf, err := loadConf(opts.RegistriesConf)
	if err != nil {
		return nil, err
	}
	keys, err := newKeychain(opts.ConfigPaths)
	if err != nil {
		return nil, err
	}
	hosts, err := newHosts(opts)
	if err != nil {
		return nil, err
	}
	return &Client{opts: opts, conf: conf, keys: keys, hosts: hosts, wrong: map[wrongAnswer]bool{}}, nil
}

func (o Options) withDefaults() Options {
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Backoff == nil {
		o.Backoff = backoff
	}
	if o.Stall <= 0 {
		o.Stall = time.Minute
	}
	if o.Connections <= 0 {
		o.Connections = 4
	}
	if o.RangeSize <= 0 {
		o.RangeSize = 8 << 20
	}
	return o
}

// backoff waits 0.2, 0.6, 1.8, 5.4, … seconds, a quarter of it by chance: many
// clients that were cut at once shall not come back at once.
func backoff(n int) time.Duration {
	d := 200 * time.Millisecond
	for range n - 1 {
		d = min(3*d, 8*time.Second)
	}
	return d + rand.N(d/4)
}

// ParseReference reads an image name as docker does: "debian" is
// docker.io/library/debian:latest.
func ParseReference(s string) (reference.Named, error) {
	ref, err := ParseName(s)
	if err != nil {
		return nil, err
	}
	return reference.TagNameOnly(ref), nil
}

// ParseName does so without adding a tag.
func ParseName(s string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not an image name: %s", s, explainName(s, err))
	}
	return ref, nil
}

// explainName says what is wrong with a name.
func explainName(s string, err error) string {
	repository := s // without the tag, whose case counts
	if i := strings.IndexAny(s[strings.LastIndex(s, "/")+1:], ":@"); i >= 0 {
		repository = s[:strings.LastIndex(s, "/")+1+i]
	}
	lower := strings.ToLower(repository) + s[len(repository):]
	switch _, lowerErr := reference.ParseNormalizedNamed(lower); {
	case s == "":
		return "it is empty"
	case errors.Is(err, reference.ErrNameTooLong):
		return "it has more than 255 characters"
	case lowerErr == nil:
		return fmt.Sprintf("repositories have lower-case names, such as %s", lower)
	case strings.Contains(s, "://"):
		return "it begins with a host or a repository, and not with a scheme"
	}
	return "it is [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST], the repository in lower-case letters and digits with single '.', '_', '-' and '/' between them"
}
