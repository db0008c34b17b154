// Package gitsource resolves and fetches LLB git sources with the git program.
//
// A bare mirror per URL keeps what was fetched, shallow: one commit, unless the
// server refuses to send a single one. A commit that the mirror has needs no
// network.
//
//	Resolve: ls-remote ──▶ commit            (a full commit id: no network)
//	Fetch:   mirror ◀── fetch --depth=1 ── remote
//	         mirror ──▶ read-tree -u ──▶ directory   (+ submodules)
//
// # What git is trusted with
//
// The URL, the ref and the contents of the repository are hostile. So git runs
// without the user's and the system's configuration, without hooks, templates,
// prompts and background maintenance, and may use no protocols but http(s),
// ssh and git. A ref that begins with '-' is refused, and what is passed on is
// separated from the options (CVE-2026-44517). A sub-directory is opened
// component by component in the open checkout, and must be one (CVE-2026-33748).
//
// Credentials, those in the URL included, reach git by its environment, never
// on a command line, which every user of the machine can read; and they are
// kept out of messages, of the mirror and of a checked-out .git directory
// (GHSA-gc89-7gcr-jxqc).
package gitsource

import (
	"context"
	"errors"
	"io"
)

// ErrNoGit says that the git program is not there.
var ErrNoGit = errors.New("the program git is not installed, or not in PATH: a git source needs it")

// ErrNoSecret is what Options.Secret returns for a secret that was not given.
var ErrNoSecret = errors.New("no such secret")

// Options are what a Client works with.
type Options struct {
	// Dir holds a bare mirror per URL.
	Dir string
	// Lock makes this process the only one that uses a mirror; nil when there
	// is no other.
	Lock func(ctx context.Context, name string) (unlock func(), err error)
	// Secret returns a secret by id, or ErrNoSecret.
	Secret func(ctx context.Context, id string) ([]byte, error)
	// SSHAgent returns the socket of the ssh agent id.
	SSHAgent func(ctx context.Context, id string) (socket string, release func(), err error)
	// Env has the variables that git may see: PATH and the proxies are taken
	// from it, nothing else.
	Env []string
	// AllowFile permits file:// URLs (tests).
	AllowFile bool
	// Log, when set, receives git's messages, without credentials.
	Log io.Writer
}

// Client resolves and fetches sources. It is safe for concurrent use where
// Options.Lock is.
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

func (c *Client) lock(ctx context.Context, name string) (func(), error) {
	if c.o.Lock == nil {
		return func() {}, nil
	}
	return c.o.Lock(ctx, name)
}
