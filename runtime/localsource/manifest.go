package localsource

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
)

// manifestVersion begins every digest: change it with the encoding.
const manifestVersion = "strata.context.v1\n"

// Manifest is a selection of files, as they were when it was made.
type Manifest struct {
	dir     string
	entries []Entry
	stats   Stats
	digest  digest.Digest
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
	Sum    [sha256.Size]byte
	Xattrs []fileop.Xattr
}

// Type is the S_IFMT bits.
func (e *Entry) Type() uint32 { return e.Mode & unix.S_IFMT }

// IsDir tells a directory.
func (e *Entry) IsDir() bool { return e.Type() == unix.S_IFDIR }

// IsRegular tells a regular file.
func (e *Entry) IsRegular() bool { return e.Type() == unix.S_IFREG }

func newManifest(dir string, entries []Entry, stats Stats) *Manifest {
	m := &Manifest{dir: dir, entries: entries, stats: stats}
	m.stats.Entries = int64(len(entries))
	h := sha256.New()
	b := []byte(manifestVersion)
	for i := range entries {
		b = entries[i].appendIdentity(b)
		if len(b) > 32<<10 {
			h.Write(b)
			b = b[:0]
		}
	}
	h.Write(b)
	m.digest = digest.NewDigest(digest.SHA256, h)
	return m
}

// appendIdentity encodes what the digest covers.
func (e *Entry) appendIdentity(b []byte) []byte {
	b = appendString(b, e.Path)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, e.Rdev)
	b = appendString(b, e.Link)
	if e.IsRegular() {
		b = append(b, e.Sum[:]...)
	}
	return appendXattrs(b, e.Xattrs)
}

// Dir is the directory that was scanned, "" for a loaded manifest.
func (m *Manifest) Dir() string { return m.dir }

// Entries are the selected entries in walk order (a directory before what it
// holds, names sorted by bytes). Do not change them.
func (m *Manifest) Entries() []Entry { return m.entries }

// Stats tells what the scan did.
func (m *Manifest) Stats() Stats { return m.stats }

// Digest covers paths, types, modes, links, extended attributes and contents,
// but no times.
func (m *Manifest) Digest() digest.Digest { return m.digest }

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
	// "type", "link target", "device", "extended attributes".
	What string
}

// Diff lists what turns before into after, in walk order.
func Diff(before, after *Manifest) []Change {
	var out []Change
	a, b := before.entries, after.entries
	for len(a) > 0 || len(b) > 0 {
		switch c := compareHeads(a, b); {
		case c < 0:
			out = append(out, Change{Kind: Removed, Path: a[0].Path})
			a = a[1:]
		case c > 0:
			out = append(out, Change{Kind: Added, Path: b[0].Path})
			b = b[1:]
		default:
			if what := difference(&a[0], &b[0]); what != "" {
				out = append(out, Change{Kind: Modified, Path: b[0].Path, What: what})
			}
			a, b = a[1:], b[1:]
		}
	}
	return out
}

func compareHeads(a, b []Entry) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return comparePaths(a[0].Path, b[0].Path)
}

// comparePaths orders paths as a walk meets them: by components.
func comparePaths(a, b string) int {
	for {
		x, moreA, okA := strings.Cut(a, "/")
		y, moreB, okB := strings.Cut(b, "/")
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		if !okA || !okB {
			return len(moreA) - len(moreB)
		}
		a, b = moreA, moreB
	}
}

// difference names the first thing in which two entries of a path differ.
func difference(a, b *Entry) string {
	switch {
	case a.Type() != b.Type():
		return "type"
	case a.Sum != b.Sum:
		return "contents"
	case a.Mode != b.Mode:
		return "mode"
	case a.Link != b.Link:
		return "link target"
	case a.Rdev != b.Rdev:
		return "device"
	case !sameXattrs(a.Xattrs, b.Xattrs):
		return "extended attributes"
	}
	return ""
}

func sameXattrs(a, b []fileop.Xattr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
