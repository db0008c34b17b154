package fileop

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSymlinks is how many symlinks a path may go through, as in BuildKit.
const maxSymlinks = 255

// resolve returns p without symlinks: an absolute clean path inside the tree
// of top. What does not exist is kept as it is written; with followLast unset,
// so is a symlink in the last component.
//
// The result is only a name to begin with: it is opened component by
// component, without following anything (see openDir).
func resolve(top Dir, p string, followLast bool) (string, error) {
	p = path.Join("/", p)
	for range maxSymlinks {
		next, again, err := resolveLink(top, p, followLast)
		if err != nil || !again {
			return next, err
		}
		p = next
	}
	return "", &os.PathError{Op: "resolve", Path: p, Err: unix.ELOOP}
}

// resolveLink replaces the first symlink of p by its target.
func resolveLink(top Dir, p string, followLast bool) (next string, again bool, err error) {
	dir, closeDir := top, func() error { return nil }
	defer func() { err = errors.Join(err, closeDir()) }()
	parts := components(p)
	for i, name := range parts {
		n, err := dir.Lookup(name)
		if errors.Is(err, fs.ErrNotExist) {
			return p, false, nil
		}
		if err != nil {
			return "", false, err
		}
		last := i == len(parts)-1
		rest := path.Join(parts[i+1:]...)
		switch {
		case n.IsLink() && (followLast || !last):
			if path.IsAbs(n.Link) {
				return path.Join(n.Link, rest), true, nil
			}
			return path.Join("/", path.Join(parts[:i]...), n.Link, rest), true, nil
		case last:
			return p, false, nil
		case !n.IsDir():
			return "", false, &os.PathError{Op: "stat", Path: p, Err: unix.ENOTDIR}
		}
		sub, err := dir.Sub(name)
		if err != nil {
			return "", false, err
		}
		if err := closeDir(); err != nil {
			return "", false, errors.Join(err, sub.Close())
		}
		dir, closeDir = sub, sub.Close
	}
	return p, false, nil
}

// components splits a clean absolute path.
func components(p string) []string {
	if p = strings.Trim(p, "/"); p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

// openDir opens a resolved path below top; a symlink on it is an error.
func openDir(t Tree, p string) (Dir, error) {
	dir, err := t.Root()
	if err != nil {
		return nil, err
	}
	for _, name := range components(p) {
		sub, err := dir.Sub(name)
		if err := errors.Join(err, dir.Close()); err != nil {
			return nil, err
		}
		dir = sub
	}
	return dir, nil
}

// cleanPath makes p absolute and clean, but keeps a final slash or "/.", which
// mean something in a source or destination.
func cleanPath(p string) string {
	clean := path.Join("/", p)
	switch {
	case strings.HasSuffix(p, "/.") && clean == "/":
		return "/."
	case strings.HasSuffix(p, "/."):
		return clean + "/."
	case strings.HasSuffix(p, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

// hasWildcard tells whether s is a pattern of filepath.Match.
func hasWildcard(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}

// splitWildcards parts p before its first component with a wildcard.
func splitWildcards(p string) (dir, pattern string) {
	parts := components(path.Join("/", p))
	for i, part := range parts {
		if hasWildcard(part) {
			return path.Join("/", path.Join(parts[:i]...)), path.Join(parts[i:]...)
		}
	}
	return path.Join("/", p), ""
}

// expand returns the paths that src stands for, in walk order. Without a
// wildcard that is src itself, whether it exists or not.
func expand(t Tree, src string, follow bool) ([]string, error) {
	dir, pattern := splitWildcards(src)
	if pattern == "" {
		return []string{dir}, nil
	}
	top, err := t.Root()
	if err != nil {
		return nil, err
	}
	base, err := resolve(top, dir, follow)
	if err != nil {
		return nil, errors.Join(err, top.Close())
	}
	if err := top.Close(); err != nil {
		return nil, err
	}
	parent, n, err := lookup(t, base)
	if err != nil {
		return nil, err
	}
	if err := parent.Close(); err != nil {
		return nil, err
	}
	if !n.IsDir() { // a file, or a symlink that is not followed
		return nil, nil
	}
	d, err := openDir(t, base)
	if err != nil {
		return nil, err
	}
	g := newGlob(base, pattern)
	err = g.walk(d, "")
	return g.matches, errors.Join(err, d.Close())
}

// lookup opens the directory that holds the resolved path p (the top for the
// top itself), and describes p.
func lookup(t Tree, p string) (Dir, Node, error) {
	dir, name := path.Split(p)
	d, err := openDir(t, dir)
	if err != nil {
		return nil, Node{}, notFound(p, err)
	}
	var n Node
	if name == "" {
		n, err = d.Self()
		n.Name = "/"
	} else {
		n, err = d.Lookup(name)
	}
	if err != nil {
		return nil, Node{}, errors.Join(notFound(p, err), d.Close())
	}
	return d, n, nil
}

// glob is a walk that collects what matches a pattern. As in BuildKit, what is
// below a match does not match again, and a match is of the whole relative
// path: '[' can match a slash, so only simple patterns tell beforehand which
// directories lead to a match.
type glob struct {
	base, pattern string
	parts         []string // nil when every directory must be listed
	matches       []string
}

func newGlob(base, pattern string) *glob {
	g := &glob{base: base, pattern: pattern}
	if !strings.ContainsAny(pattern, `[\`) {
		g.parts = strings.Split(pattern, "/")
	}
	return g
}

func (g *glob) walk(d Dir, rel string) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := g.visit(d, path.Join(rel, name)); err != nil {
			return err
		}
	}
	return nil
}

func (g *glob) visit(d Dir, rel string) error {
	// A malformed pattern matches nothing.
	if match, err := filepath.Match(g.pattern, rel); err == nil && match {
		g.matches = append(g.matches, path.Join(g.base, rel))
		return nil
	}
	if !g.leads(rel) {
		return nil
	}
	n, err := d.Lookup(path.Base(rel))
	if err != nil || !n.IsDir() {
		return err
	}
	sub, err := d.Sub(n.Name)
	if err != nil {
		return err
	}
	return errors.Join(g.walk(sub, rel), sub.Close())
}

// leads tells whether something below rel can match.
func (g *glob) leads(rel string) bool {
	if g.parts == nil {
		return true
	}
	names := strings.Split(rel, "/")
	if len(names) >= len(g.parts) {
		return false
	}
	match, err := filepath.Match(path.Join(g.parts[:len(names)]...), rel)
	return err == nil && match
}
