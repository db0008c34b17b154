package layer

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Contents says what each of an image's layers does to those below it, and
// what of it is in vain. It is read from the layers' tars, as anybody sees
// them who pulls the image.
type Contents struct {
	Layers []Content
	// Wasted lists the files of layers that a later layer replaces or removes,
	// the largest first: they are stored and transferred, and nobody sees them.
	Wasted []Waste
	// WastedBytes is their sum; Bytes that of all files of all layers.
	WastedBytes, Bytes int64
}

// Efficiency is the part of the bytes that is seen, from 0 to 1.
func (c *Contents) Efficiency() float64 {
	if c.Bytes == 0 {
		return 1
	}
	return float64(c.Bytes-c.WastedBytes) / float64(c.Bytes)
}

// Content is what one layer does.
type Content struct {
	// Added are paths that were not there, Changed those that were, and Hidden
	// those that are removed; of a removed directory, only itself is named.
	// Directories that a layer repeats without a change are left out.
	Added, Changed, Hidden []File
	// Bytes is the sum of the layer's files.
	Bytes int64
}

// File is a path of a layer. Directories end in a slash. The size of what is
// hidden is that of all that went with it.
type File struct {
	Path string
	Size int64
}

// Waste is one file that is in vain.
type Waste struct {
	Path string
	Size int64
	// Layer has the file, and By hides it: numbers from 1, bottom first.
	Layer, By int
	// Removed tells a removal from a replacement.
	Removed bool
}

// ReadContents reads the tars of an image's layers, bottom first.
func ReadContents(ctx context.Context, layers []func() (io.ReadCloser, error)) (*Contents, error) {
	s := &merged{root: &node{dir: true}, out: Contents{Wasted: []Waste{}}}
	for i, open := range layers {
		if err := s.add(ctx, open); err != nil {
			return nil, fmt.Errorf("read layer %d of %d: %w", i+1, len(layers), err)
		}
	}
	slices.SortStableFunc(s.out.Wasted, func(a, b Waste) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Path, b.Path))
	})
	return &s.out, nil
}

// merged is the merged view of the layers so far.
type merged struct {
	root *node
	out  Contents
	now  int // the number of the layer that is being added
}

// node is a path of the view.
type node struct {
	dir      bool
	size     int64
	attrs    [3]int64 // mode and owner
	layer    int
	children map[string]*node
}

// maxPaths bounds what a hostile layer makes us hold.
const maxPaths = 10_000_000

func (s *merged) add(ctx context.Context, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	s.now++
	s.out.Layers = append(s.out.Layers, Content{Added: []File{}, Changed: []File{}, Hidden: []File{}})
	headers, err := s.headers(ctx, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	// Marks speak of the layers below, wherever they stand in the tar.
	for _, h := range headers {
		s.hide(h)
	}
	for _, h := range headers {
		s.put(h)
	}
	c := s.content()
	for _, list := range [][]File{c.Added, c.Changed, c.Hidden} {
		slices.SortFunc(list, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	}
	return nil
}

// content is that of the layer being added.
func (s *merged) content() *Content { return &s.out.Layers[s.now-1] }

// headers reads a tar without its data.
func (s *merged) headers(ctx context.Context, r io.Reader) ([]*tar.Header, error) {
	var all []*tar.Header
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && len(all) == maxPaths {
			err = fmt.Errorf("it has more than %d files", maxPaths)
		}
		if err != nil {
			return nil, err
		}
		h.Name = strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		all = append(all, h)
	}
}

// hide applies a whiteout or the mark of an opaque directory.
func (s *merged) hide(h *tar.Header) {
	dir, base := path.Split(h.Name)
	if !strings.HasPrefix(base, whiteoutPrefix) {
		return
	}
	parent := s.find(dir)
	if parent == nil {
		return
	}
	if base != opaqueName {
		s.remove(parent, dir, strings.TrimPrefix(base, whiteoutPrefix))
		return
	}
	for name := range parent.children {
		s.remove(parent, dir, name)
	}
}

// remove hides a name with all that is below it.
func (s *merged) remove(parent *node, dir, name string) {
	n := parent.children[name]
	if n == nil {
		return
	}
	full := "/" + path.Join(dir, name)
	size := s.waste(n, full, true)
	if n.dir {
		full += "/"
	}
	delete(parent.children, name)
	c := s.content()
	c.Hidden = append(c.Hidden, File{full, size})
}

// waste counts the files of a tree that are not seen any more.
func (s *merged) waste(n *node, full string, removed bool) int64 {
	size := n.size
	if n.size > 0 {
		s.out.Wasted = append(s.out.Wasted, Waste{Path: full, Size: n.size, Layer: n.layer, By: s.now, Removed: removed})
		s.out.WastedBytes += n.size
	}
	for name, child := range n.children {
		size += s.waste(child, path.Join(full, name), removed)
	}
	return size
}

// put adds a file of the layer to the view.
func (s *merged) put(h *tar.Header) {
	dir, base := path.Split(h.Name)
	if base == "" || strings.HasPrefix(base, whiteoutPrefix) {
		return
	}
	parent := s.find(dir)
	if parent == nil {
		parent = s.makeDirs(dir)
	}
	n := &node{dir: h.Typeflag == tar.TypeDir, layer: s.now, attrs: [3]int64{h.Mode, int64(h.Uid), int64(h.Gid)}}
	if h.Typeflag == tar.TypeReg {
		n.size = h.Size
	}
	s.out.Bytes += n.size
	s.content().Bytes += n.size
	old := parent.children[base]
	s.report(n, old, "/"+h.Name)
	if old != nil && old.dir && n.dir {
		n.children = old.children
	} else if old != nil {
		s.waste(old, "/"+h.Name, false)
	}
	parent.set(base, n)
}

// report lists a path as added or changed. A name that a tar has twice is one
// path.
func (s *merged) report(n, old *node, full string) {
	if n.dir {
		full += "/"
	}
	c := s.content()
	switch {
	case old == nil:
		c.Added = append(c.Added, File{full, n.size})
	case old.layer == s.now || old.dir && n.dir && old.attrs == n.attrs:
	default:
		c.Changed = append(c.Changed, File{full, n.size})
	}
}

func (n *node) set(name string, child *node) {
	if n.children == nil {
		n.children = map[string]*node{}
	}
	n.children[name] = child
}

// find returns the directory of a path, or nil.
func (s *merged) find(dir string) *node {
	n := s.root
	for _, name := range strings.FieldsFunc(dir, func(r rune) bool { return r == '/' }) {
		if n = n.children[name]; n == nil || !n.dir {
			return nil
		}
	}
	return n
}

// makeDirs adds the directories of a path that a layer does not have itself.
func (s *merged) makeDirs(dir string) *node {
	n := s.root
	for _, name := range strings.FieldsFunc(dir, func(r rune) bool { return r == '/' }) {
		child := n.children[name]
		if child == nil || !child.dir {
			child = &node{dir: true, layer: s.now}
			n.set(name, child)
		}
		n = child
	}
	return n
}
