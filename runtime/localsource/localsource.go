// Package localsource selects the files of a user's directory that a build
// sees.
package localsource

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
)

var errLanding = errors.New("localsource: being written")

// Options select files of a directory.
type Options struct {
	// Include, Exclude and FollowPaths are the attributes of an LLB local
	// source, with BuildKit's meaning.
	Include, Exclude, FollowPaths []string
	// CacheDir holds the stat caches; "" hashes every file again.
	CacheDir string
	// Progress, when set, is told now and then how far the scan is. Calls do
	// not overlap.
	Progress func(Stats)
}

// Stats count what a scan did.
type Stats struct {
	// Entries are selected files, directories and links; Bytes is the sum of
	// the file sizes.
	Entries, Bytes int64
	// Hashed files were read; the others were known from the stat cache.
	Hashed, HashedBytes int64
}

// Manifest is a selection of files, as they were when it was made.
type Manifest struct {
	dir     string
	entries []Entry
	stats   Stats
}

// Entry is a file, directory or link of a manifest. User and group are root.
type Entry struct {
	// Path is relative, with slashes.
	Path string
	// Mode has type and permission bits, as st_mode.
	Mode uint32
	Size int64
	// Mtime is in nanoseconds. It is not part of the digest.
	Mtime int64
	Rdev  uint64
	// Link is the target of a symlink, or the earlier path that this regular
	// file is a hard link to.
	Link string
	// Sum is the SHA-256 of a regular file's contents.
	Sum    [32]byte
	Xattrs []fileop.Xattr
}

// Scan selects the files of dir.
func Scan(ctx context.Context, dir string, o Options) (*Manifest, error) { return nil, errLanding }

// Dir is the directory that was scanned, "" for a loaded manifest.
func (m *Manifest) Dir() string { return m.dir }

// Entries are the selected entries in walk order (a directory before what it
// holds, names sorted by bytes). Do not change them.
func (m *Manifest) Entries() []Entry { return m.entries }

// Stats tells what the scan did.
func (m *Manifest) Stats() Stats { return m.stats }

// Digest covers paths, types, modes, links, extended attributes and contents,
// but no times.
func (m *Manifest) Digest() digest.Digest { return "" }

// Tree opens the manifest as a source of copies, which read the user's
// directory itself and verify what they read.
func (m *Manifest) Tree() (*Tree, error) { return nil, errLanding }

// Tree is a manifest over its open directory.
type Tree struct{}

// Root implements fileop.Tree.
func (t *Tree) Root() (fileop.Dir, error) { return nil, errLanding }

// Close closes the user's directory.
func (t *Tree) Close() error { return errLanding }

// Save keeps the manifest in dir, named by its digest, for Load.
func (m *Manifest) Save(dir string) error { return errLanding }

// Load returns a manifest that was saved, without a directory; an error that
// is fs.ErrNotExist when there is none (or none that is whole).
func Load(dir string, d digest.Digest) (*Manifest, error) { return nil, errLanding }

// ChangeKind says how an entry differs between two manifests.
type ChangeKind string

// The kinds of changes.
const (
	Added    ChangeKind = "added"
	Removed  ChangeKind = "removed"
	Modified ChangeKind = "modified"
)

// Change is an entry that differs.
type Change struct {
	Kind ChangeKind
	Path string
	// What names the difference of a modified entry: "contents", "mode",
	// "type", "link target", "extended attributes".
	What string
}

// Diff lists what turns old into new, in walk order.
func Diff(old, new *Manifest) []Change { return nil }

// Previous is an earlier materialisation, whose unchanged files are linked
// instead of copied. It must be in the same file system and never change.
type Previous struct {
	Manifest *Manifest
	Root     *rootfs.Root
}

// MaterialiseOptions say how Materialise writes.
type MaterialiseOptions struct {
	Previous *Previous
	// Copy has the options of the copy itself.
	Copy fileop.Options
}

// Materialise copies the selection into the empty directory dst.
func Materialise(ctx context.Context, m *Manifest, dst *rootfs.Root, o MaterialiseOptions) error {
	return errLanding
}
