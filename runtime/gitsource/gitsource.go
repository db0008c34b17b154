// Package gitsource resolves and fetches LLB git sources with the git program.
package gitsource

import (
	"context"
	"errors"
	"io"
)

var errLanding = errors.New("gitsource: being written")

// ErrNoGit says that the git program is not there.
var ErrNoGit = errors.New("the program git is not installed, or not in PATH: a git source needs it")

// ErrNoSecret is what Options.Secret returns for a secret that was not given.
var ErrNoSecret = errors.New("no such secret")

// Source is a parsed LLB git source.
type Source struct {
	// Remote is the URL, credentials included: never log it, log String().
	Remote string
	Ref    string
	Subdir string
	// Checksum is the (abbreviated) commit that Ref must be.
	Checksum         string
	KeepGitDir       bool
	SkipSubmodules   bool
	FetchByCommit    bool
	CommitMTime      bool
	AuthTokenSecret  string
	AuthHeaderSecret string
	KnownSSHHosts    string
	// MountSSHSock is the id of the ssh agent.
	MountSSHSock string
}

// Parse reads an LLB source identifier ("git://…") and its attributes.
// Attributes that this package cannot honour are refused by name.
func Parse(identifier string, attrs map[string]string) (*Source, error) { return nil, errLanding }

// String is the source without credentials.
func (s *Source) String() string { return "" }

// Options are what a Client works with.
type Options struct {
	// Dir holds a bare mirror per URL.
	Dir string
	// Lock makes this process the only one that uses a mirror.
	Lock func(ctx context.Context, name string) (unlock func(), err error)
	// Secret returns a secret by id, or ErrNoSecret.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSHAgent returns the socket of the ssh agent id.
	SSHAgent func(ctx context.Context, id string) (socket string, release func(), err error)
	// Env has the variables that git may see: PATH and the proxies are taken
	// from it, nothing else.
	Env []string
	// AllowFile permits file:// URLs and local paths (tests).
	AllowFile bool
	// Log, when set, receives git's messages.
	Log io.Writer
}

// Client resolves and fetches sources.
type Client struct{ o Options }

// New returns a client.
func New(o Options) *Client { return &Client{o} }

// Resolved is what a source stands for now.
type Resolved struct {
	// Commit is the object id that the ref has: the tag object of an
	// annotated tag.
	Commit string
	// Peeled is the commit of an annotated tag, when it is known.
	Peeled string
	// Ref is the full name of the ref, or the commit id.
	Ref string
}

// Resolve asks the remote for the commit; a full commit id needs no network.
func (c *Client) Resolve(ctx context.Context, s *Source) (Resolved, error) {
	return Resolved{}, errLanding
}

// Key is the identity of the checked-out files.
func (s *Source) Key(r Resolved) string { return "" }

// Fetch checks the resolved source out into the empty directory dir.
func (c *Client) Fetch(ctx context.Context, s *Source, r Resolved, dir string) error {
	return errLanding
}
