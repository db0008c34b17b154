package conformance

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// tree is a file system of layers, flattened. Names of one file share a node.
type tree map[string]*node

type node struct {
	tar.Header
	content string // itself where it is short text, else its hash
}

// shortest is the size of text that is shown whole.
const shortest = 400

// contentOf reads what is compared of a file's content.
func contentOf(r io.Reader) (string, error) {
	sum := sha256.New()
	start, err := io.ReadAll(io.TeeReader(io.LimitReader(r, shortest), sum))
	if err != nil {
		return "", err
	}
	n, err := io.Copy(sum, r)
	if err != nil {
		return "", err
	}
	if n == 0 && utf8.Valid(start) {
		return strconv.Quote(string(start)), nil
	}
	return fmt.Sprintf("%d bytes %x", int64(len(start))+n, sum.Sum(nil)[:8]), nil
}

func newTree() tree { return tree{} }

// apply lays a layer on the tree, by OCI's rules of whiteouts.
func (t tree) apply(layer []byte) error {
	lower := maps.Clone(t)
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.entry(lower, h, r); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
}

func (t tree) entry(lower tree, h *tar.Header, r io.Reader) error {
	name := path.Join("/", h.Name)
	dir, base := path.Split(name)
	if base == ".wh..wh..opq" {
		t.hide(lower, path.Clean(dir), false)
		return nil
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		t.hide(lower, path.Join(dir, hidden), true)
		return nil
	}
	if old, ok := t[name]; ok && (old.Typeflag != tar.TypeDir || h.Typeflag != tar.TypeDir) {
		t.hide(lower, name, true)
	}
	if h.Typeflag == tar.TypeLink {
		target, ok := t[path.Join("/", h.Linkname)]
		if !ok {
			return fmt.Errorf("link to %q, which is not there", h.Linkname)
		}
		t[name] = target
		return nil
	}
	content, err := contentOf(r)
	t[name] = &node{Header: *h, content: content}
	return err
}

// hide removes what lower layers have at a path, and below it.
func (t tree) hide(lower tree, name string, itself bool) {
	below := strings.TrimSuffix(name, "/") + "/"
	for p, n := range lower {
		if (itself && p == name || strings.HasPrefix(p, below)) && t[p] == n {
			delete(t, p)
		}
	}
}

// lines describes every path but the root, whose attributes no layer of
// buildkitd's has.
func (t tree) lines() []string {
	names := map[*node][]string{}
	for _, p := range slices.Sorted(maps.Keys(t)) {
		names[t[p]] = append(names[t[p]], p)
	}
	var out []string
	for _, p := range slices.Sorted(maps.Keys(t)) {
		if p == "/" {
			continue
		}
		out = append(out, fmt.Sprintf("%q %s", p, t[p].describe(names[t[p]])))
	}
	return out
}

// describe is all that is compared of a file.
func (n *node) describe(names []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%c %04o %d:%d", n.Typeflag, n.Mode&0o7777, n.Uid, n.Gid)
	if n.Typeflag != tar.TypeDir { // buildkitd fills directories of the context after it has set their time
		fmt.Fprintf(&b, " %d", n.ModTime.Unix())
	}
	switch n.Typeflag {
	case tar.TypeReg:
		b.WriteString(" " + n.content)
	case tar.TypeSymlink:
		fmt.Fprintf(&b, " -> %q", n.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		fmt.Fprintf(&b, " device %d:%d", n.Devmajor, n.Devminor)
	}
	for _, key := range slices.Sorted(maps.Keys(n.PAXRecords)) {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			fmt.Fprintf(&b, " %s=%q", name, n.PAXRecords[key])
		}
	}
	if len(names) > 1 {
		fmt.Fprintf(&b, " = %q", names)
	}
	return b.String()
}
