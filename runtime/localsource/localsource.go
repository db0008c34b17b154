// Package localsource selects the files of a user's directory that a build
// sees.
//
// A scan walks the directory on two threads, and makes a manifest: every
// selected file, directory and link with its attributes, and the SHA-256 of
// the contents. Nothing is copied. The manifest is a Tree that file actions
// read from, in the user's own directory; they verify what they read, so that
// a file that is changed during the build is found out.
//
//	list directory ─▶ patterns ─▶ stat ─▶ stat cache ─┬─ known ──────────▶ manifest
//	      ▲              │                            └─ open, hash, stat ─▶
//	      └─ descend ◀───┘
//
// # Stat cache
//
// Hashing is the expensive part. One flat file for each scanned directory
// remembers the digest of a file by its inode number, size, and modification
// and change times. As in git, a time that is too recent proves nothing: a file
// that is changed again within one tick of the clock keeps its times. Such a
// file is not recorded, and hashed again by the next scan.
//
// The file is replaced by a rename, and carries a checksum: concurrent scans
// do not disturb each other (the last one wins), and a damaged cache is an
// empty one.
//
// # BuildKit
//
// The selection is that of BuildKit's client: the same patterns, symlinks that
// are followed, order; users and groups become root; a socket becomes an empty
// file. One thing differs: BuildKit sends a file that it cannot read as an
// empty one. Here that is an error.
package localsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop/pattern"
	"github.com/strata-build/strata/runtime/rootfs"
)

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

	// now is the time of the scan, for tests.
	now func() time.Time
}

// Stats count what a scan did.
type Stats struct {
	// Entries are selected files, directories and links; Bytes is the sum of
	// the file sizes.
	Entries, Bytes int64
	// Hashed files were read; the others were known from the stat cache.
	Hashed, HashedBytes int64
}

// Scan selects the files of dir.
func Scan(ctx context.Context, dir string, o Options) (*Manifest, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("context directory %q: %w", dir, err)
	}
	root, err := rootfs.OpenDir(abs)
	if err != nil {
		return nil, explainDir(dir, err)
	}
	defer root.Close()
	top, err := root.Dir()
	if err != nil {
		return nil, explainDir(dir, err)
	}
	filter, err := newFilter(top, &o)
	if err != nil {
		return nil, errors.Join(err, top.Close())
	}
	if o.now == nil {
		o.now = time.Now
	}
	w := &walk{
		ctx: ctx, filter: filter, progress: o.Progress,
		started: o.now(), cache: openStatCache(o.CacheDir, abs),
	}
	if err := w.run(top); err != nil {
		return nil, fmt.Errorf("context directory %q: %w", dir, err)
	}
	if err := w.cache.save(w); err != nil {
		return nil, fmt.Errorf("stat cache of %q: %w", dir, err)
	}
	return w.manifest(abs), nil
}

// explainDir says what is wrong with the directory of a scan.
func explainDir(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("context directory %q does not exist: %w", dir, err)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("context %q is not a directory: %w", dir, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("context directory %q cannot be read by this user: %w", dir, err)
	}
	return fmt.Errorf("context directory %q: %w", dir, err)
}

// newFilter compiles the selection. Followed paths become include patterns.
func newFilter(top *rootfs.Dir, o *Options) (*pattern.Filter, error) {
	include := o.Include
	if o.FollowPaths != nil {
		followed, err := followPaths(top, o.FollowPaths)
		if err != nil {
			return nil, fmt.Errorf("follow the symlinks of %q: %w", o.FollowPaths, err)
		}
		if followed != nil {
			include = withoutNested(slices.Concat(include, followed))
		}
	}
	return pattern.New(include, o.Exclude)
}

// withoutNested drops paths below others that stand just before them. As in
// BuildKit, "." among them means that there is no filter at all.
func withoutNested(paths []string) []string {
	out := make([]string, 0, len(paths))
	last := ""
	for _, p := range paths {
		if p == "." {
			return nil
		}
		if strings.HasPrefix(p, last+"/") {
			continue
		}
		out = append(out, p)
		last = p
	}
	return out
}
